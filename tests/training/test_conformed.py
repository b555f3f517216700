import threading

import nibabel as nib
import numpy as np
import pytest

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.scan.conform import InputSpec, conform
from napari_cnnvis.scan.files import read_volume
from napari_cnnvis.training import conformed
from napari_cnnvis.training.conformed import ConformedScans
from napari_cnnvis.training.study import StudyProblems, read_study

SPEC = InputSpec(shape=(10, 8, 6))


def test_scans_are_what_the_model_gets_and_are_kept(study_table, tmp_path):
    study = read_study(study_table, ["NC", "AD"])
    seen = []
    scans = ConformedScans.prepare(study, SPEC, tmp_path / "cache", seen.append)
    assert len(scans) == 24
    assert (seen[-1].done, seen[-1].total) == (24, 24)
    for index in (0, 7):
        expected = conform(read_volume(study.scans[index].path), scans.spec).channels
        np.testing.assert_array_equal(scans[index], expected)
        assert isinstance(scans[index], np.memmap)
    written = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()}
    ConformedScans.prepare(study, SPEC, tmp_path / "cache")
    assert written == {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()}
    assert len(written) == 24


def test_a_damaged_file_of_the_cache_is_made_anew(study_table, tmp_path):
    study = read_study(study_table, ["NC", "AD"])
    before = np.array(ConformedScans.prepare(study, SPEC, tmp_path / "c")[3])
    for file in (tmp_path / "c").iterdir():
        file.write_bytes(file.read_bytes()[:200])
    np.testing.assert_array_equal(ConformedScans.prepare(study, SPEC, tmp_path / "c")[3], before)


def test_every_bad_scan_is_named_at_once(study_table, tmp_path):
    study = read_study(study_table, ["NC", "AD"])
    paths = [scan.path for scan in study.scans]

    def rewrite(index, data):
        nib.save(nib.Nifti1Image(data.astype(np.float32), np.diag([2.0, 2, 2, 1])), paths[index])

    good = np.random.default_rng(0).random((8, 8, 8))
    holed = good.copy()
    holed[1, 2, 3] = np.nan
    rewrite(1, holed)
    rewrite(2, np.zeros((8, 8, 8)))
    rewrite(3, good[:, :, :5])
    paths[4].write_bytes(paths[4].read_bytes()[:-40])
    paths[5].write_bytes(paths[6].read_bytes())
    rewrite(7, np.stack([good, good + 1], axis=3))
    with pytest.raises(StudyProblems) as caught:
        ConformedScans.prepare(study, SPEC, tmp_path / "cache")
    assert [row for row, _ in caught.value.problems] == [3, 4, 5, 6, 8, 9]
    text = str(caught.value)
    for part in ("NaN", "the same value", "8 x 8 x 5 voxels", "damaged", "same scan as row 7"):
        assert part in text


def test_an_unexpected_error_in_a_scan_is_named_among_the_others(
    study_table, tmp_path, monkeypatch
):
    study = read_study(study_table, ["NC", "AD"])

    def stumbles(volume, spec):
        if "scan-3" in volume.name:
            raise KeyError("axes")
        if "scan-5" in volume.name:
            raise MemoryError
        return conform(volume, spec)

    monkeypatch.setattr(conformed, "conform", stumbles)
    with pytest.raises(StudyProblems) as caught:
        ConformedScans.prepare(study, SPEC, tmp_path / "cache")
    assert [row for row, _ in caught.value.problems] == [5, 7]
    assert "unexpected went wrong (KeyError: 'axes')" in caught.value.problems[0][1]
    assert "Memory ran out" in caught.value.problems[1][1]
    assert len(list((tmp_path / "cache").iterdir())) == 22


def test_a_full_disk_is_no_fault_of_the_scans(study_table, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    study = read_study(study_table, ["NC", "AD"])
    monkeypatch.setattr(conformed.np, "save", full)
    with pytest.raises(VolumeError, match="No space left on device") as caught:
        ConformedScans.prepare(study, SPEC, tmp_path / "cache")
    assert not isinstance(caught.value, StudyProblems)
    assert list((tmp_path / "cache").iterdir()) == []


def test_other_grids_are_fine_where_the_input_has_a_spacing(study_table, tmp_path):
    study = read_study(study_table, ["NC", "AD"])
    data = np.random.default_rng(0).random((16, 8, 8)).astype(np.float32)
    nib.save(nib.Nifti1Image(data, np.diag([1.0, 2, 2, 1])), study.scans[0].path)
    spec = InputSpec(shape=(8, 8, 8), spacing=(2, 2, 2))
    assert ConformedScans.prepare(study, spec, tmp_path / "c")[0].shape == (1, 8, 8, 8)


def test_cancelled(study_table, tmp_path):
    cancel = threading.Event()
    cancel.set()
    study = read_study(study_table, ["NC", "AD"])
    assert ConformedScans.prepare(study, SPEC, tmp_path / "c", cancel=cancel) is None


def test_scans_that_lie_otherwise_are_turned(study_table, tmp_path):
    study = read_study(study_table, ["NC", "AD"])
    flipped = nib.as_closest_canonical(nib.load(study.scans[0].path))
    data = np.asarray(flipped.dataobj)
    mirrored = nib.Nifti1Image(data[::-1], flipped.affine @ np.diag([-1.0, 1, 1, 1]))
    nib.save(mirrored, study.scans[0].path)
    scans = ConformedScans.prepare(study, InputSpec(), tmp_path / "c")
    assert (scans.spec.orientation, scans.spec.spacing) == ("RAS", (2.0, 2.0, 2.0))
    assert scans.spec.shape == (8, 8, 8)
    np.testing.assert_allclose(scans[0][0], data / data.max(), rtol=1e-6)


def test_a_file_that_says_nothing_of_its_orientation_is_taken_as_it_is(study_table, tmp_path):
    study = read_study(study_table, ["NC", "AD"])
    for scan in study.scans:
        image = nib.load(scan.path)
        data = np.asarray(image.dataobj)
        silent = nib.Nifti1Image(data, None)
        silent.header.set_zooms((2, 2, 2))
        nib.save(silent, scan.path)
    scans = ConformedScans.prepare(study, InputSpec(), tmp_path / "c")
    assert scans.spec.orientation is None
    stored = np.asarray(nib.load(study.scans[3].path).dataobj)
    np.testing.assert_allclose(scans[3][0], stored / stored.max(), rtol=1e-6)


def test_scans_of_several_sizes_need_a_shape(study_table, tmp_path):
    study = read_study(study_table, ["NC", "AD"])
    data = np.random.default_rng(0).random((8, 8, 12)).astype(np.float32)
    nib.save(nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1])), study.scans[0].path)
    spec = InputSpec(spacing=(2, 2, 2))
    with pytest.raises(StudyProblems, match=r"\(8, 8, 12\), where most scans have \(8, 8, 8\)"):
        ConformedScans.prepare(study, spec, tmp_path / "c")


@pytest.mark.parametrize("rules", ["mean, clip 0 8", "z-score-nonzero, clip -1 1", "window 0 1.5"])
def test_chains_of_intensity_rules_are_what_is_learnt_from(study_table, tmp_path, rules):
    study = read_study(study_table, ["NC", "AD"])
    scans = ConformedScans.prepare(study, InputSpec(intensity=rules), tmp_path / "c")
    assert scans.spec.intensity == rules
    stored = np.asarray(nib.load(study.scans[2].path).dataobj, np.float64)
    expected = {
        "mean, clip 0 8": (stored / stored.mean()).clip(0, 8),
        "z-score-nonzero, clip -1 1": ((stored - stored.mean()) / stored.std()).clip(-1, 1),
        "window 0 1.5": (stored / 1.5).clip(0, 1),
    }[rules]
    np.testing.assert_allclose(scans[2][0], expected, atol=1e-5)
    others = ConformedScans.prepare(study, InputSpec(), tmp_path / "c")
    assert not np.allclose(others[2][0], expected)  # kept apart, in one folder


def test_steps_are_what_is_learnt_from_and_say_the_grid_themselves(study_table, tmp_path):
    study = read_study(study_table, ["NC", "AD"])
    data = np.random.default_rng(0).random((16, 9, 8)).astype(np.float32)
    nib.save(nib.Nifti1Image(data, np.diag([1.0, 2, 2, 1])), study.scans[0].path)
    spec = InputSpec(steps="Orientation('LPS'), Resize((6, 7, 8)), ScaleIntensity(minv=-1)")
    scans = ConformedScans.prepare(study, spec, tmp_path / "c")
    assert scans.spec == spec
    for index in (0, 3):
        expected = conform(read_volume(study.scans[index].path), spec).channels
        np.testing.assert_array_equal(scans[index], expected)
    assert (scans[0].min(), scans[0].max()) == (-1, 1)


def test_steps_that_leave_several_sizes_are_refused(study_table, tmp_path):
    study = read_study(study_table, ["NC", "AD"])
    data = np.random.default_rng(0).random((16, 9, 8)).astype(np.float32)
    nib.save(nib.Nifti1Image(data, np.diag([1.0, 2, 2, 1])), study.scans[0].path)
    with pytest.raises(StudyProblems, match="where most scans have"):
        ConformedScans.prepare(study, InputSpec(steps="ScaleIntensity()"), tmp_path / "c")
