"""A map's record is enough to make the map again: the script is run."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import napari_cnnvis as cv
from napari_cnnvis.errors import MethodError, VolumeError
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.record import Record
from napari_cnnvis.explain.run import explain

RESNET = (
    "monai.networks.nets:resnet10(spatial_dims=3, n_input_channels={}, num_classes=2, "
    "widen_factor=0.125)"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from monai.networks.nets import resnet10

    folder = tmp_path_factory.mktemp("script")
    rng = np.random.default_rng(0)
    for name in ("t1", "flair", "control"):
        data = rng.random((20, 22, 18)).astype(np.float32)
        data[:4] = 0
        cv.write_volume(cv.Volume(data, np.diag([-2, 2, 2, 1.0])), folder / f"{name}.nii.gz")
    for channels in (1, 2):
        torch.manual_seed(channels)
        net = resnet10(spatial_dims=3, n_input_channels=channels, num_classes=2, widen_factor=0.125)
        torch.save(net.state_dict(), folder / f"net{channels}.pt")
    return folder


def model_of(folder, channels=1, **more):
    path = folder / f"net{channels}.pt"
    names = ["NC", "AD"]
    return cv.load_model(path, arch=RESNET.format(channels), class_names=names, **more)


def ran(provenance, tmp_path):
    """What the script writes, run as a program of its own."""
    script = tmp_path / "again.py"
    script.write_text(Record.read(provenance).script(str(tmp_path / "map.nii.gz")))
    subprocess.run([sys.executable, script], check=True, timeout=300)
    return cv.read_volume(tmp_path / "map.nii.gz")


def executed(provenance, tmp_path):
    """The same in this process, which is faster."""
    path = tmp_path / "map.nii.gz"
    for written in (path, tmp_path / "map.json"):
        written.unlink(missing_ok=True)
    exec(Record.read(provenance).script(str(path)), {})
    return cv.read_volume(path)


def assert_same(found, expected):
    assert np.abs(expected.data).max() > 0
    scale = np.abs(expected.data).max()
    np.testing.assert_allclose(found.data, expected.data, atol=1e-6 * scale)
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-5)


def test_a_program_of_its_own_makes_the_same_map(folder, tmp_path):
    volume = cv.read_volume(folder / "t1.nii.gz")
    spec = cv.InputSpec((16, 16, 16), (2.5, 2.5, 2.5), "LPS", "z-score")
    expected = cv.grad_cam(model_of(folder, input_spec=spec), volume, "AD", relu=False)
    assert_same(ran(expected.provenance, tmp_path), expected)


@pytest.mark.parametrize("method", ["cam", "grad-cam", "grad-cam++", "hirescam", "layercam", "box"])
def test_every_method(fitting, folder, tmp_path, method):
    volume = cv.read_volume(folder / "t1.nii.gz")
    request = fitting(method, "NC", relu=False, size=5, stride=6, baseline=[0, "blur"])
    expected = explain(model_of(folder), volume, request)
    assert_same(executed(expected.provenance, tmp_path), expected)


def test_sensitivity_with_everything_changed(folder, tmp_path):
    volume = cv.read_volume(folder / "t1.nii.gz")
    control = cv.read_volume(folder / "control.nii.gz")
    hierarchy = cv.build_hierarchy(volume, counts=[12, 6])
    expected = cv.sensitivity(
        model_of(folder),
        volume,
        hierarchy,
        "AD",
        baseline=["border", control],
        quantity="probability",
        score="logit",
        levels=[9, 4],
        join="size-aware",
        margin=3.0,
    )
    assert_same(executed(expected.provenance, tmp_path), expected)
    view = cv.remap(expected, "NC", baseline="disagreement", level_weights=[1, 0.5])
    assert_same(executed(view.provenance, tmp_path), view)


def test_a_saved_hierarchy(folder, tmp_path):
    volume = cv.read_volume(folder / "t1.nii.gz")
    cv.build_hierarchy(volume, counts=[8, 3]).save(tmp_path / "tree.npz")
    hierarchy = cv.Hierarchy.load(tmp_path / "tree.npz")
    expected = cv.sensitivity(model_of(folder), volume, hierarchy, "AD")
    assert_same(executed(expected.provenance, tmp_path), expected)


def test_several_channels(folder, tmp_path):
    scans = [cv.read_volume(folder / f"{name}.nii.gz") for name in ("t1", "flair")]
    expected = cv.grad_cam(model_of(folder, 2), scans, "AD", relu=False)
    assert_same(executed(expected.provenance, tmp_path), expected)


def test_the_axes_of_the_viewer(folder, tmp_path):
    volume = cv.read_volume(folder / "t1.nii.gz").reoriented("SAR", remember=True)
    model = model_of(folder)
    np.testing.assert_allclose(
        model.predict(volume), model.predict(cv.read_volume(folder / "t1.nii.gz"))
    )
    expected = cv.grad_cam(model, volume, "AD", relu=False)
    assert_same(executed(expected.provenance, tmp_path), expected)


def test_windows(folder, tmp_path):
    volume = cv.read_volume(folder / "t1.nii.gz")
    spec = cv.InputSpec(window=(16, 16, 16), overlap=0.25)
    expected = cv.grad_cam(model_of(folder, input_spec=spec), volume, "AD")
    assert_same(executed(expected.provenance, tmp_path), expected)


def test_what_is_not_on_disk_is_marked():
    data = np.random.default_rng(0).random((9, 9, 9))
    net = torch.nn.Sequential(
        *(torch.nn.Conv3d(1, 2, 3), torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten()),
        torch.nn.Linear(2, 2),
    )
    found = cv.cam(cv.Model(net), cv.Volume(data, name="made"), 0).record.script()
    assert found.count("# TODO") == 2
    assert "'made'" in found


def test_records_of_other_programs_are_refused(plain):
    with pytest.raises(MethodError) as caught:
        Record.read({"method": "tea leaves"}).script()
    assert "tea leaves" in plain(caught.value)


def test_the_request_of_a_record(folder):
    volume = cv.read_volume(folder / "t1.nii.gz")
    model = model_of(folder)
    request = cv.ExplainRequest("layercam", "AD", layer="layer2.0", relu=False, score="probability")
    assert explain(model, volume, request).record.request() == request
    request = cv.ExplainRequest("box", "NC", baseline=[0.5, "blur"], size=5, stride=9)
    assert explain(model, volume, request).record.request() == request


# --- maps in files ------------------------------------------------------------------------


def test_a_saved_map_comes_back_with_its_record(folder, tmp_path):
    expected = cv.grad_cam(model_of(folder), cv.read_volume(folder / "t1.nii.gz"), "AD")
    expected.save(tmp_path / "map.nii.gz")
    found = Attribution.load(tmp_path / "map.nii.gz")
    np.testing.assert_array_equal(found.data, expected.data)
    assert found.provenance == json.loads(json.dumps(expected.provenance))
    assert found.notes == expected.notes
    assert found.name == expected.name
    assert not found.partial


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"method": "CAM"}'])
def test_a_map_without_its_record_is_a_plain_error(folder, tmp_path, content, plain):
    expected = cv.grad_cam(model_of(folder), cv.read_volume(folder / "t1.nii.gz"), "AD")
    expected.save(tmp_path / "map.nii.gz")
    side = tmp_path / "map.json"
    side.unlink() if content is None else side.write_text(content)
    with pytest.raises(VolumeError) as caught:
        Attribution.load(tmp_path / "map.nii.gz")
    assert "two files that belong together" in plain(caught.value, side)


def test_nearest_cells_are_the_cells(folder):
    volume = cv.read_volume(folder / "t1.nii.gz")
    found = cv.grad_cam(model_of(folder), volume, "AD", layer="layer2.0", relu=False)
    nearest = found.nearest()
    assert nearest.shape == volume.shape
    assert set(np.unique(nearest)) == set(np.unique(found.native))


@pytest.mark.parametrize("method", ["sensitivity", "box"])
def test_half_precision_is_part_of_a_record(fitting, folder, method):
    """Else "Run again" and the script would make another map."""
    volume = cv.read_volume(folder / "t1.nii.gz")
    request = fitting(method, "AD", baseline=["blur"], size=5, stride=9, precision="half")
    found = explain(model_of(folder), volume, request)
    assert found.provenance["precision"] == "half"
    assert Record.read(found.provenance).request().how.precision == "half"
    assert "    precision='half'," in Record.read(found.provenance).script()


def test_boxes_are_the_same_size_wherever_they_are_asked_for():
    from inspect import signature

    from napari_cnnvis.evaluate.benchmark.options import BenchmarkOptions

    asked = cv.ExplainRequest("box", 0)
    of_function = signature(cv.box_sensitivity).parameters
    of_benchmark = BenchmarkOptions()
    for name in ("size", "stride"):
        defaults = {
            getattr(asked.how, name),
            of_function[name].default,
            getattr(of_benchmark, name),
        }
        assert len(defaults) == 1
