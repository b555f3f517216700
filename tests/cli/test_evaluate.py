import argparse
import csv

import numpy as np
import pytest
import torch
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis.cli import evaluate
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.evaluate.benchmark import figure as benchmark_figure
from napari_cnnvis.evaluate.benchmark import methods as benchmark_methods

SHAPE = (16, 16, 16)
NETWORK = """
from torch import nn

def make():
    head = nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 2)
    return nn.Sequential(nn.Conv3d(1, 3, 3), nn.ReLU(), *head)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two scans in a table, and a network."""
    folder = tmp_path_factory.mktemp("evaluate")
    grid = np.indices(SHAPE) - 8
    brain, truth = (grid**2).sum(0) < 45, (grid**2).sum(0) < 9
    rows = ["Path,Truth,Rois"]
    for number in range(2):
        noise = np.random.default_rng(number).uniform(0.2, 1, SHAPE)
        for name, data in {
            "scan": np.where(brain, noise, 0),
            "truth": truth,
            "rois": np.where(grid[0] < 0, 3, 0),
        }.items():
            volume = cv.Volume(data.astype(np.float32), np.diag([2.0, 2, 2, 1]))
            cv.write_volume(volume, folder / f"{name}{number}.nii.gz")
        rows.append(f"scan{number}.nii.gz,truth{number}.nii.gz,rois{number}.nii.gz")
    rows.append("scan0.nii.gz,,")
    (folder / "table.csv").write_text("\n".join(rows))
    (folder / "nets.py").write_text(NETWORK)
    torch.manual_seed(0)
    weights = {
        **nn.Conv3d(1, 3, 3).state_dict(prefix="0."),
        **nn.Linear(3, 2).state_dict(prefix="4."),
    }
    torch.save(weights, folder / "net.pt")
    return folder


@pytest.fixture
def run(folder, tmp_path):
    """Run ``napari-cnnvis evaluate`` on the table; returns the exit status."""
    parser = argparse.ArgumentParser()
    evaluate.add_parser(parser.add_subparsers())

    def run(*options, table="table.csv", models=("net",)):
        files = [f"--model={m.replace('net', str(folder / 'net.pt'))}" for m in models]
        how = ["--arch", f"{folder / 'nets.py'}:make()", "--trust", "--classes", "NC", "AD"]
        place = ["-o", str(tmp_path / "out")]
        given = parser.parse_args(["evaluate", str(folder / table), *files, *how, *place, *options])
        return given.run(given)

    return run


@pytest.fixture
def no_pictures(monkeypatch):
    """Drawing takes the most time; one test does it."""
    monkeypatch.setattr(benchmark_figure, "write_figures", lambda *args: [])


QUICK = ("--target", "AD", "--methods", "cam", "hirescam", "depth")


def lines_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_tables_and_pictures_are_written(run, tmp_path, capsys):
    options = ("--roi", "front half=1-3", "--alignment", "stretch", "receptive field")
    assert run(*QUICK, *options) == 0
    out = tmp_path / "out"
    assert {p.name for p in out.iterdir()} == {
        *("rows", "scores.csv", "summary.csv", "summary.md"),
        *(f"{n}.{e}" for n in ("localisation", "resolution", "regions") for e in ("png", "svg")),
    }
    lines = lines_of(out / "scores.csv")
    assert len(lines) == 2 * 2 * (2 + 2 * 2 + 1)
    assert {line["region"] for line in lines} == {"truth", "front half"}
    assert {line["model"] for line in lines} == {"net"}
    told = capsys.readouterr().out
    assert f"{len(lines)} rows of 2 scan(s), written to {out}" in told
    assert "1 row(s) without a Truth" in told


def test_settings_reach_the_methods(run, no_pictures, tmp_path):
    assert (
        run(
            *("--target", "1", "--methods", "box", "--limit", "1", "--size", "3", "--stride", "6"),
            *("--baseline", "0", "--score", "logit", "--tolerance", "2"),
            *("--quantity", "drop", "absolute", "--smooth", "0", "4"),
        )
        == 0
    )
    settings = [line["setting"] for line in lines_of(tmp_path / "out" / "scores.csv")]
    assert settings == [
        "3 voxels, stride 6, 0, logit",
        "3 voxels, stride 6, 0, logit, smoothed 4 mm",
        "3 voxels, stride 6, 0, logit, absolute",
        "3 voxels, stride 6, 0, logit, absolute, smoothed 4 mm",
    ]


def test_networks_can_be_named(run, no_pictures, tmp_path):
    models = ("first=net", "second=net")
    assert run(*QUICK, "--limit", "1", models=models) == 0
    lines = lines_of(tmp_path / "out" / "scores.csv")
    assert {line["model"] for line in lines} == {"first", "second"}
    with pytest.raises(CnnVisError, match="Two networks are called 'net'"):
        run(*QUICK, models=("net", "net"))


def test_a_second_run_computes_nothing(run, no_pictures, tmp_path, monkeypatch):
    assert run(*QUICK) == 0
    before = (tmp_path / "out" / "scores.csv").read_text()
    monkeypatch.setattr(benchmark_methods, "explain", None)
    assert run(*QUICK) == 0
    assert (tmp_path / "out" / "scores.csv").read_text() == before


def test_what_could_not_be_scored_is_told(run, no_pictures, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise CnnVisError("Not today.")

    monkeypatch.setattr(benchmark_methods, "explain", fail)
    assert run(*QUICK) == 1
    assert "not scored: net, scan1, HiResCAM: Not today." in capsys.readouterr().out


def test_an_unexpected_error_is_told_and_logged(run, no_pictures, monkeypatch, capsys, tmp_path):
    real = benchmark_methods.cam

    def stumbles(model, volume, *args, **kwargs):
        if volume.name == "scan1":
            raise KeyError("axes")
        return real(model, volume, *args, **kwargs)

    monkeypatch.setattr(benchmark_methods, "cam", stumbles)
    assert run(*QUICK) == 1
    said = capsys.readouterr()
    assert "not scored: net, scan1, CAM: Something unexpected went wrong" in said.out
    assert "Traceback" not in said.out + said.err
    log = tmp_path / "out" / "errors.log"
    assert str(log) in said.err
    assert "KeyError: 'axes'" in log.read_text()
    assert "Traceback" in log.read_text()
    rows = {(line["scan"], line["method"]) for line in lines_of(tmp_path / "out" / "scores.csv")}
    assert {("scan0", "CAM"), ("scan1", "HiResCAM")} <= rows
    assert ("scan1", "CAM") not in rows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target", "nobody"), "no class 'nobody'"),
        ((*QUICK, "--limit", "0"), "--limit 0 leaves no scan"),
        ((*QUICK, "--roi", "x=a"), "does not say which labels"),
        ((*QUICK, "--roi", "far=9"), r"2 row\(s\) .* the region 'far' has no voxel"),
        ((*QUICK, "--roi", "x=3", "--roi", "x=4"), "Two regions are called 'x'"),
        ((*QUICK, "--roi", "truth=3"), "cannot be called 'truth'"),
        ((*QUICK, "--margin", "-1"), "margin of -1"),
        ((*QUICK, "--baseline", "black"), "'black' is not a baseline"),
        ((*QUICK, "--tolerance", "-1"), "tolerance"),
    ],
)
def test_mistakes_are_told_before_anything_is_run(run, tmp_path, plain, options, message):
    with pytest.raises(CnnVisError, match=message) as caught:
        run(*options)
    plain(caught.value)
    assert not (tmp_path / "out").exists()
