import json

import numpy as np
import pytest

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.methods.cam import cam
from napari_cnnvis.explain.methods.grad_cam import grad_cam
from napari_cnnvis.explain.methods.sensitivity import sensitivity
from napari_cnnvis.explain.record import Record
from napari_cnnvis.scan.files import read_volume
from napari_cnnvis.scan.volume import Volume
from napari_cnnvis.ucm.hierarchy import Hierarchy

AFFINE = np.array([[-2.0, 0, 0, 30], [0, 0, 1.5, -20], [0, 2.5, 0, 5], [0, 0, 0, 1]])


@pytest.fixture
def scan():
    data = np.random.default_rng(0).random((12, 11, 10), dtype=np.float32)
    return Volume(data, AFFINE, "patient 7")


@pytest.fixture(params=["cam", "grad_cam", "sensitivity"])
def attribution(request, cam_model, scan):
    if request.param == "cam":
        return cam(cam_model, scan, "control")
    if request.param == "grad_cam":
        return grad_cam(cam_model, scan, "control", layer="conv1c", relu=False, score="log_prob")
    halves = (np.indices(scan.shape)[0] > 5).astype(np.int32)
    hierarchy = Hierarchy.from_levels([halves])
    return sensitivity(cam_model, scan, hierarchy, "control", baseline=0)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mgz"])
def test_map_comes_back_from_the_file(attribution, tmp_path, ending):
    path = attribution.save(tmp_path / f"my.map{ending}")
    found = read_volume(path)
    np.testing.assert_array_equal(found.data, attribution.data)
    np.testing.assert_allclose(found.affine, AFFINE, atol=1e-5)


def test_json_beside_the_map_holds_the_provenance(attribution, tmp_path):
    attribution.save(tmp_path / "my.map.nii.gz")
    stored = json.loads((tmp_path / "my.map.json").read_text())
    assert stored == {**attribution.provenance, "partial": False, "notes": list(attribution.notes)}
    assert {p.name for p in tmp_path.iterdir()} == {"my.map.nii.gz", "my.map.json"}


def test_provenance_says_what_was_run(attribution, cam_model):
    p = attribution.provenance
    assert (p["class"], p["class_name"]) == (1, "control")
    assert p["model"]["architecture"] == "VoxResNetGAP"
    assert p["model"]["weights_sha256"] == cam_model.weights_hash()
    assert p["scan"]["name"] == "patient 7"
    assert p["scan"]["shape"] == [12, 11, 10]
    assert p["scan"]["axes"] == p["scan"]["stored_axes"] == "LSA"
    assert p["model"]["output"] == "softmax"
    assert {"napari-cnnvis", "torch", "numpy"} <= set(p["versions"])


def test_parameters_of_grad_cam_are_kept(cam_model, scan):
    p = grad_cam(cam_model, scan, 0, layer="conv1c", relu=False, score="log_prob").provenance
    assert (p["method"], p["layer"], p["relu"], p["score"]) == (
        "Grad-CAM",
        "conv1c",
        False,
        "log_prob",
    )


def test_name_tells_method_class_and_layer(cam_model, scan):
    assert grad_cam(cam_model, scan, 0, layer="conv1c").name == "Grad-CAM · patient · conv1c"


def test_partial_map_is_named_so(scan):
    provenance = {"method": "UCM sensitivity", "class_name": "control"}
    made = Attribution(scan.data, scan.affine, Record(provenance), scan, partial=True)
    assert made.name == "UCM sensitivity · control (partial)"


def test_weights_decide_the_hash(cam_model):
    before = cam_model.weights_hash()
    cam_model.module.prob.bias.data += 1
    assert cam_model.weights_hash() != before


@pytest.mark.parametrize("name", ["map.png", "map", "map.nii.zip"])
def test_other_endings_are_refused(attribution, tmp_path, name):
    with pytest.raises(VolumeError, match=r"\.nii\.gz"):
        attribution.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_missing_folder_is_refused(attribution, tmp_path):
    with pytest.raises(VolumeError, match="no folder"):
        attribution.save(tmp_path / "missing" / "map.nii")
