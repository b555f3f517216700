import argparse
import json

import numpy as np
import pytest
import torch

import napari_cnnvis as cv
from napari_cnnvis.cli import trust
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.models.networks.vox import VoxResNetGAP

QUICK = ["--tests", "edges", "deletion", "--steps", "3", "--orders", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trust")
    grid = np.indices((16, 14, 12)) - np.array([8, 7, 6])[:, None, None, None]
    head = (grid**2).sum(0) < 30
    data = np.where(head, np.random.default_rng(0).uniform(0.5, 1, head.shape), 0)
    scan = cv.Volume(data, np.diag([2.0, 2.0, 2.0, 1.0]))
    cv.write_volume(scan, folder / "scan.nii.gz")
    torch.manual_seed(0)
    cv.save_model(
        VoxResNetGAP(), folder / "net.safetensors", ["patient", "control"], cv.InputSpec()
    )
    model = cv.load_model(folder / "net.safetensors", device="cpu")
    scan = cv.read_volume(folder / "scan.nii.gz")
    cv.cam(model, scan, "control").save(folder / "map.nii.gz")
    return folder


@pytest.fixture
def run(folder, tmp_path):
    def run(*options, output=tmp_path / "out"):
        parser = argparse.ArgumentParser()
        trust.add_parser(parser.add_subparsers(required=True))
        files = [str(folder / "scan.nii.gz"), "--model", str(folder / "net.safetensors")]
        given = parser.parse_args(["trust", *files, "-o", str(output), *options])
        return given.run(given), output

    return run


def test_a_map_is_computed_and_tested(run, capsys):
    status, output = run("--method", "cam", "--target", "patient", *QUICK)
    assert status == 0
    record = json.loads((output / "trust.json").read_text())
    assert record["provenance"]["map"]["class_name"] == "patient"
    assert record["provenance"]["tests"]["run"] == ["edges", "deletion"]
    assert len(record["removal"]["deletion"]["random"]) == 2
    said = capsys.readouterr().out
    assert record["verdict"] in said
    assert "Deletion and insertion" in said
    assert (output / "trust.png").stat().st_size > 1000


def test_a_saved_map_is_tested(run, folder):
    status, output = run("--map", str(folder / "map.nii.gz"), *QUICK, "--deleted-to", "0")
    assert status == 0
    record = json.loads((output / "trust.json").read_text())
    assert record["provenance"]["map"]["class_name"] == "control"
    assert record["removal"]["baseline"] == "0"


def test_supervoxels_without_sensitivity_are_refused(run, folder, plain):
    with pytest.raises(CnnVisError) as error:
        run("--supervoxels", "tree.npz", *QUICK)
    plain(error.value)


def test_a_file_as_output_is_refused(run, folder, plain):
    with pytest.raises(CnnVisError) as error:
        run(*QUICK, output=folder / "scan.nii.gz")
    plain(error.value)
