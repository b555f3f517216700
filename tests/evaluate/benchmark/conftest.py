"""A study with planted regions, and the benchmark of it with all methods."""

import csv

import numpy as np
import pytest

from napari_cnnvis.evaluate.benchmark.run import run_benchmark
from napari_cnnvis.evaluate.benchmark.table import read_benchmark_table

from .planted import ALL, ROIS, SHAPE, make_model, write


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A table of two patients, each a ball with a bright cube in it, and a control."""
    folder = tmp_path_factory.mktemp("study")
    grid = np.indices(SHAPE) - np.array([8, 8, 7])[:, None, None, None]
    brain = (grid**2).sum(0) < 45
    lines = [["Subject", "Label", "Path", "Truth", "Rois"]]
    for number in range(2):
        truth = np.zeros(SHAPE, bool)
        truth[5 + number : 9 + number, 6:10, 5:9] = True
        noise = np.random.default_rng(number).uniform(0.2, 0.5, SHAPE)
        write(np.where(brain, noise + 0.5 * truth, 0), folder / f"p{number}.nii.gz")
        write(truth, folder / f"p{number}_truth.nii.gz")
        write(
            np.where(grid[1] > 3, 0, np.where(grid[0] < 0, 3, 4)), folder / f"p{number}_rois.nii.gz"
        )
        files = [f"p{number}{ending}.nii.gz" for ending in ("", "_truth", "_rois")]
        lines.append([f"s{number}", "AD", *files])
    lines.append(["s2", "control", "p0.nii.gz", "", ""])
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    return folder


@pytest.fixture(scope="module")
def models():
    return {"exact": make_model(), "other": make_model(cells=2)}


@pytest.fixture(scope="module")
def scans(study):
    return read_benchmark_table(study / "table.csv", ROIS)[0]


@pytest.fixture(scope="module")
def everything(models, scans, tmp_path_factory):
    """All methods on all scans of one network, and where they were written."""
    folder = tmp_path_factory.mktemp("everything") / "new"
    return run_benchmark({"exact": models["exact"]}, scans, "AD", folder, ALL, ROIS), folder
