"""A run on a scan with a head mask of its own uses exactly that mask, everywhere, and says so."""

import json

import numpy as np
import pytest
import torch

import napari_cnnvis as cv
from napari_cnnvis.cohort.keys import ResultKeys
from napari_cnnvis.evaluate.trust.shared import TrustRun
from napari_cnnvis.explain.run import explain
from napari_cnnvis.explain.scoring.baselines import make_baseline
from napari_cnnvis.explain.scoring.occluded_scan import OccludedScan
from napari_cnnvis.figure.pictures import Subject
from napari_cnnvis.scan.volume import HEAD_FOUND


@pytest.fixture(scope="module")
def mask(brain):
    """Half of the brain, and a piece apart: nothing that would be found."""
    mask = brain.data > 0
    mask[:, :, 7:] = False
    mask[6:8, 6:8, 9:11] = True
    return mask


@pytest.fixture(scope="module")
def carried(brain, mask):
    return brain.with_head(mask, "mine")


@pytest.mark.parametrize("baseline", ["blur", "border", "noise"])
def test_baselines_change_the_mask_alone(conv_model, carried, mask, baseline):
    (made,) = OccludedScan(conv_model, carried, baseline).baselines
    np.testing.assert_array_equal(made.replaces, mask)
    expected = make_baseline(carried.data, baseline, carried.spacing, head=mask)
    inside = np.flatnonzero(mask)[:9]
    np.testing.assert_array_equal(made.values(inside), expected.values(inside))


def test_noise_is_as_the_mask_is(carried, mask):
    noise = make_baseline(carried.data, "noise", carried.spacing, head=mask).image
    assert noise[mask].mean() == pytest.approx(carried.data[mask].mean(), abs=0.02)


def test_blur_takes_nothing_from_outside(brain, mask):
    changed = np.where(mask, brain.data, 50).astype(np.float32)
    one, other = (
        make_baseline(data, "blur", brain.spacing, head=mask).image
        for data in (brain.data, changed)
    )
    np.testing.assert_allclose(one[mask], other[mask], rtol=1e-5)


def test_a_number_goes_everywhere_as_before(conv_model, carried):
    (made,) = OccludedScan(conv_model, carried, 0).baselines
    np.testing.assert_array_equal(made.replaces, carried.data != 0)


@pytest.mark.parametrize("boundary", ["gradient", "gpb"])
def test_supervoxels_fill_the_mask(carried, mask, boundary):
    hierarchy = cv.build_hierarchy(carried, boundary)
    np.testing.assert_array_equal(hierarchy.leaves > 0, mask)


@pytest.mark.parametrize("voxels", [1, 2, 5])
def test_supervoxels_of_a_tiny_mask(brain, voxels):
    tiny = np.zeros(brain.shape, bool)
    tiny[7, 7, 5 : 5 + voxels] = True
    hierarchy = cv.build_hierarchy(brain.with_head(tiny))
    np.testing.assert_array_equal(hierarchy.leaves > 0, tiny)


def test_boxes_stand_in_the_mask(conv_model, carried, mask):
    found = cv.box_sensitivity(conv_model, carried, 0, size=3, stride=2, baseline=0)
    centres = found.regions.centres
    assert mask[tuple(centres.T)].all()
    np.testing.assert_array_equal(found.regions.covered(), mask)
    assert not found.data[~mask].any()
    of_array = cv.box_sensitivity(
        conv_model, carried.with_head(None), 0, size=3, stride=2, baseline=0, inside=mask
    )
    np.testing.assert_allclose(found.data, of_array.data, atol=1e-6)


def test_margins_and_smoothing_stay_inside(conv_model, carried, mask):
    request = cv.ExplainRequest("sensitivity", 0, margin=4.0, smooth=6.0, baseline="border")
    found = explain(conv_model, carried, request)
    assert found.data[mask].any()
    assert not found.data[~mask].any()


def test_sensitivity_differs_from_that_of_the_head_that_is_found(conv_model, brain, carried):
    request = cv.ExplainRequest("sensitivity", 0)
    own, other = (explain(conv_model, scan, request).data for scan in (carried, brain))
    assert np.abs(own - other).max() > 1e-4


def test_a_whole_mask_of_what_is_found_changes_nothing(conv_model, brain):
    request = cv.ExplainRequest("sensitivity", 0)
    same = brain.with_head(brain.data > 0)
    np.testing.assert_array_equal(
        explain(conv_model, same, request).data, explain(conv_model, brain, request).data
    )


def test_figures_take_it(carried, mask):
    notes = []
    np.testing.assert_array_equal(Subject.of(carried, carried.data, notes).head, mask)
    assert notes == ["The head is that of the mask 'mine'."]


def test_a_figure_of_the_mask_alone(carried, tmp_path):
    map_ = cv.Volume(np.ones(carried.shape), carried.affine, "map")
    spec = cv.FigureSpec(layout="views", crop=True, head_only=True)
    record = cv.write_figure(carried, map_, spec, tmp_path / "figure.png")
    assert any("'mine'" in note for note in record.notes)


# --- the record ------------------------------------------------------------------------


def test_the_record_says_which_head(conv_model, brain, carried):
    assert cv.box_sensitivity(conv_model, brain, 0, size=5, stride=6).provenance["scan"][
        "head"
    ] == (HEAD_FOUND)
    scan = cv.box_sensitivity(conv_model, carried, 0, size=5, stride=6).provenance["scan"]
    assert (scan["head"], scan["head_source"]) == ("mine", "")


@pytest.fixture
def files(brain, mask, tmp_path):
    """Scan, mask and network on disk."""
    cv.write_volume(brain, tmp_path / "scan.nii.gz")
    cv.write_volume(cv.Volume(mask, brain.affine), tmp_path / "mask.nii.gz")
    torch.manual_seed(0)
    from napari_cnnvis.models.networks.vox import VoxResNetGAP

    cv.save_model(VoxResNetGAP(), tmp_path / "net.safetensors", ["a", "b"], cv.InputSpec())
    return tmp_path


def test_the_script_takes_the_mask_from_its_file(files):
    model = cv.load_model(files / "net.safetensors", device="cpu")
    scan = cv.read_volume(files / "scan.nii.gz").reoriented("SAR", remember=True)
    scan = scan.with_head(cv.read_volume(files / "mask.nii.gz"))
    expected = explain(model, scan, cv.ExplainRequest("box", "a", size=5, stride=4))
    script = expected.record.script(str(files / "again.nii.gz"))
    assert f"volume.with_head(cv.read_volume({str(files / 'mask.nii.gz')!r}))" in script
    assert "# TODO" not in script
    exec(script, {})
    found = cv.read_volume(files / "again.nii.gz")
    np.testing.assert_allclose(found.data, expected.data, atol=1e-6)
    record = json.loads((files / "again.json").read_text())
    assert record["scan"] == json.loads(json.dumps(expected.provenance["scan"]))


def test_a_mask_that_is_in_no_file_is_marked(conv_model, carried):
    found = cv.box_sensitivity(conv_model, carried, 0, size=5, stride=6)
    script = found.record.script()
    (line,) = (line for line in script.splitlines() if "with_head" in line)
    assert line.endswith("# TODO: the head mask 'mine'")


def test_a_map_is_never_written_over_its_mask(files):
    model = cv.load_model(files / "net.safetensors", device="cpu")
    scan = cv.read_volume(files / "scan.nii.gz")
    scan = scan.with_head(cv.read_volume(files / "mask.nii.gz"))
    found = cv.cam(model, scan, "a")
    assert str(files / "mask.nii.gz") in found.record.files
    with pytest.raises(cv.CnnVisError):
        found.save(files / "mask.nii.gz", overwrite=True)


def test_keys_differ_with_the_mask(conv_model, mask):
    keys, request = ResultKeys(conv_model), cv.ExplainRequest("sensitivity", 0)
    other = mask.copy()
    other[0, 0, 0] = True
    made = [keys.attribution("s", request, None, head) for head in (None, mask, other, mask.T)]
    assert len(set(made)) == 4
    assert made[0] == keys.attribution("s", request)
    assert made[1] == keys.attribution("s", request, None, mask.copy())


# --- trust -----------------------------------------------------------------------------


def test_tests_of_a_map_stay_inside_the_mask(conv_model, carried, mask):
    found = cv.box_sensitivity(conv_model, carried, 0, size=3, stride=3, baseline=0)
    report = cv.trust_report(conv_model, carried, found, tests=["deletion"], steps=3)
    assert not any("The map was made with the head" in note for note in report.notes)


def test_tests_with_another_head_say_so(conv_model, brain, carried):
    found = cv.box_sensitivity(conv_model, carried, 0, size=3, stride=3, baseline=0)
    report = cv.trust_report(conv_model, brain, found, tests=["edges"])
    (note,) = (note for note in report.notes if "head" in note)
    assert note == (
        "The map was made with the head of the mask 'mine', and is tested with the head found in "
        "the scan."
    )


def test_the_heads_of_a_report_are_the_mask(conv_model, carried, mask):
    found = cv.box_sensitivity(conv_model, carried, 0, size=3, stride=3, baseline=0)
    run = TrustRun(conv_model, carried, found, None, None, 0, None, None)
    np.testing.assert_array_equal(run.head, mask)
    np.testing.assert_array_equal(run.inside, mask)
