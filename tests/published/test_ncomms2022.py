"""A network published with its weights, from two files to maps (Qiu et al. 2022, doi:10.1038/s41467-022-31037-5)."""

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.processing import resample_from_to

import napari_cnnvis as cv
from napari_cnnvis.sample_data import sample_path

from .networks import AlzheimerNet

SHAPE = (182, 218, 182)
#: FSL's MNI152 grid of 1 mm
FSL = np.array([[-1, 0, 0, 90], [0, 1, 0, -126], [0, 0, 1, -72], [0, 0, 0, 1.0]])
SPEC = cv.InputSpec(shape=SHAPE, spacing=(1, 1, 1), orientation="LAS", intensity="mean, clip 0 8")


@pytest.fixture(scope="module")
def scan():
    image = nib.load(sample_path("simulated_atrophy_severe.nii.gz"))
    image = resample_from_to(image, (SHAPE, FSL), order=1)
    return cv.Volume(image.get_fdata(dtype=np.float32), FSL, "patient")


@pytest.fixture(scope="module")
def folder(shared_data):
    return shared_data / "ncomms2022"


def fold(folder, number, head="ADD", **arguments):
    files = [folder / f"{part}_cross{number}.pth" for part in ("backbone", head)]
    net = AlzheimerNet() if head == "ADD" else AlzheimerNet(100, 1)
    return cv.load_model(files, device="cpu", arch=net, input_spec=SPEC, **arguments)


@pytest.fixture(scope="module")
def model(folder):
    return fold(folder, 0, class_names=["first", "second"])


def by_hand(net, scan):
    """The authors' preparation and a plain pass."""
    x = np.clip(scan.data / scan.data.mean(), 0, 8)
    with torch.no_grad():
        return net.eval()(torch.from_numpy(x)[None, None])[0].numpy(), x


def test_both_files_are_put_together(model, folder):
    backbone = torch.load(folder / "backbone_cross0.pth", map_location="cpu", weights_only=True)
    head = torch.load(folder / "ADD_cross0.pth", map_location="cpu", weights_only=True)
    given = model.module.state_dict()
    assert len(backbone) + len(head) == len(given)
    assert all(torch.equal(given[f"backbone.{k}"], v) for k, v in backbone.items())
    assert all(torch.equal(given[f"head.{k}"], v) for k, v in head.items())


def test_the_input_is_found_without_being_told(folder):
    files = [folder / "backbone_cross0.pth", folder / "ADD_cross0.pth"]
    bare = cv.load_model(files, device="cpu", arch=AlzheimerNet())
    assert bare.input_spec.shape == SHAPE


def test_the_prediction_is_that_of_the_authors_preparation(model, scan):
    scores, x = by_hand(model.module, scan)
    np.testing.assert_allclose(model.conform(scan).channels[0], x, atol=1e-5)
    expected = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(model.predict(scan), expected, atol=1e-6)


def test_scans_in_other_axes_and_voxels_come_to_the_same(model, scan):
    turned = cv.Volume(scan.data[::-1, :, ::-1], FSL @ _turn(), "turned")
    np.testing.assert_allclose(model.predict(turned), model.predict(scan), atol=1e-5)


def _turn():
    turn = np.eye(4)
    for axis in (0, 2):
        turn[axis, axis], turn[axis, 3] = -1, SHAPE[axis] - 1
    return turn


@pytest.mark.parametrize("block", [1, 2, 3, 4])
def test_grad_cam_of_each_block_is_captums(model, scan, block):
    from captum.attr import LayerGradCam

    name = f"backbone.block{block}"
    _, x = by_hand(model.module, scan)
    found = cv.grad_cam(model, scan, "second", layer=name, relu=False)
    layer = model.module.get_submodule(name)
    theirs = LayerGradCam(model.module, layer).attribute(torch.from_numpy(x)[None, None], 1)
    theirs = theirs[0, 0].detach().numpy()
    assert found.data.shape == SHAPE
    np.testing.assert_allclose(found.native, theirs, atol=1e-4 * np.abs(theirs).max())


def test_sensitivity_is_that_of_a_plain_loop(model, scan):
    slabs = [np.arange(n) * cells // n for n, cells in zip(SHAPE, (2, 2, 1), strict=True)]
    labels = slabs[0][:, None, None] * 2 + slabs[1][:, None] + slabs[2]
    hierarchy = cv.Hierarchy.from_levels([labels])
    found = cv.sensitivity(model, scan, hierarchy, "second", baseline=0, score="logit")
    assert found.record.values["engine"]["engine"] == "incremental"
    clean, x = by_hand(model.module, scan)
    drops = np.empty(4)
    with torch.no_grad():
        for region in range(4):
            occluded = torch.from_numpy(np.where(labels == region, np.float32(0), x))[None, None]
            drops[region] = clean[1] - model.module(occluded)[0, 1]
    np.testing.assert_allclose(found.data, drops[labels], atol=1e-4 * np.abs(drops).max())


def test_cognition_is_a_value_with_two_targets(folder, scan):
    model = fold(folder, 0, "COG", output="regression", class_names=["cognition"])
    scores, _ = by_hand(model.module, scan)
    np.testing.assert_allclose(model.predict(scan), scores, atol=1e-5)
    assert model.class_names == ("lower cognition", "higher cognition")
    lower, higher = (
        cv.grad_cam(model, scan, f"{side} cognition", layer="backbone.block4", relu=False).native
        for side in ("lower", "higher")
    )
    np.testing.assert_allclose(lower, -higher, atol=1e-6)


def test_five_folds_agree_on_severe_atrophy(folder, scan):
    predictions = np.array([fold(folder, n).predict(scan)[1] for n in range(5)])
    assert predictions.mean() == pytest.approx(0.978, abs=0.005)
    assert predictions.std() == pytest.approx(0.020, abs=0.005)


def test_the_two_files_as_one(model, folder, scan, tmp_path):
    arch = "tests.published.networks:AlzheimerNet()"
    path = cv.save_model(model, tmp_path / "fold0.safetensors", arch=arch)
    again = cv.load_model(path, device="cpu", arch=AlzheimerNet())
    assert again.input_spec == SPEC
    assert again.class_names == ("first", "second")
    np.testing.assert_array_equal(again.predict(scan), model.predict(scan))
