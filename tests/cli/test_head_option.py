"""``--head``: a head mask of the user's own, for explain, trust and supervoxels."""

import json

import numpy as np
import pytest
import torch

import napari_cnnvis as cv
from napari_cnnvis.cli import main
from napari_cnnvis.models.networks.vox import VoxResNetGAP

AFFINE = np.array([[0, -2.0, 0, 20], [2, 0, 0, -15], [0, 0, 2, 7], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A scan, a mask with other axes, one of another size, an empty one, and a network."""
    folder = tmp_path_factory.mktemp("head")
    grid = np.indices((18, 20, 16)) - np.array([9, 10, 8])[:, None, None, None]
    data = np.where(
        (grid**2).sum(0) < 49, np.random.default_rng(0).uniform(0.5, 1, grid[0].shape), 0
    )
    mask = (grid**2).sum(0) < 25
    cv.write_volume(cv.Volume(data, AFFINE), folder / "scan.nii.gz")
    cv.write_volume(cv.Volume(mask, AFFINE).reoriented("LPI"), folder / "mask.nii.gz")
    cv.write_volume(cv.Volume(mask[:-1], AFFINE), folder / "small.nii.gz")
    cv.write_volume(cv.Volume(mask * 0, AFFINE), folder / "empty.nii.gz")
    torch.manual_seed(0)
    cv.save_model(VoxResNetGAP(), folder / "net.safetensors", ["a", "b"], cv.InputSpec())
    return folder


@pytest.fixture
def run(folder):
    def run(command, *options, output, head="mask.nii.gz"):
        model = [] if command == "supervoxels" else ["--model", str(folder / "net.safetensors")]
        device = [] if command == "supervoxels" else ["--device", "cpu"]
        given = [str(folder / "scan.nii.gz"), "--head", str(folder / head), "-o", str(output)]
        return main([command, *given, *model, *device, *options])

    return run


@pytest.fixture
def scan(folder):
    scan = cv.read_volume(folder / "scan.nii.gz")
    return scan.with_head(cv.read_volume(folder / "mask.nii.gz"))


def test_explain_is_the_apis(run, scan, folder, tmp_path):
    options = ["--method", "box", "--size", "5", "--stride", "4", "--target", "a"]
    assert run("explain", *options, output=tmp_path / "map.nii.gz") == 0
    model = cv.load_model(folder / "net.safetensors", device="cpu")
    expected = cv.box_sensitivity(model, scan, "a", size=5, stride=4)
    np.testing.assert_allclose(
        cv.read_volume(tmp_path / "map.nii.gz").data, expected.data, atol=1e-6
    )
    record = json.loads((tmp_path / "map.json").read_text())
    assert record["scan"]["head"] == "mask"
    assert record["scan"]["head_source"] == str(folder / "mask.nii.gz")


def test_supervoxels_lie_inside_it(run, scan, tmp_path):
    assert run("supervoxels", output=tmp_path / "tree.npz") == 0
    leaves = cv.Hierarchy.load(tmp_path / "tree.npz").leaves
    np.testing.assert_array_equal(leaves > 0, scan.head)


def test_trust_takes_it(run, tmp_path, capsys):
    options = ["--method", "cam", "--target", "a", "--tests", "edges"]
    assert run("trust", *options, output=tmp_path / "report") == 0
    record = json.loads((tmp_path / "report" / "trust.json").read_text())
    assert record["provenance"]["map"]["scan"]["head"] == "mask"


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("small.nii.gz", "17 x 20 x 16 voxels"),
        ("empty.nii.gz", "is empty"),
        ("missing.nii.gz", "missing.nii.gz"),
    ],
)
@pytest.mark.parametrize("command", ["explain", "supervoxels"])
def test_what_is_no_mask_of_the_scan_is_refused(run, tmp_path, capsys, command, head, said):
    output = tmp_path / ("tree.npz" if command == "supervoxels" else "map.nii.gz")
    assert run(command, output=output, head=head) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_mask_is_never_written_over(run, folder, capsys):
    before = (folder / "mask.nii.gz").read_bytes()
    mask = folder / "mask.nii.gz"
    assert run("explain", "--method", "cam", "--overwrite", output=mask) == 2
    assert (folder / "mask.nii.gz").read_bytes() == before
