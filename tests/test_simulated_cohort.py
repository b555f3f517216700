"""The script that simulates scans, on a made-up brain."""

import csv
import importlib.util
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import napari_cnnvis

FOLDER = Path(napari_cnnvis.__file__).parents[1] / "sample_data"
pytestmark = pytest.mark.skipif(
    not (FOLDER / "simulated_cohort.py").is_file(), reason="the scripts are in the repository only"
)


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cohort():
    yield load("simulated_cohort")
    del sys.modules["simulated_cohort"]


@pytest.fixture(scope="module")
def template(cohort):
    """A ball of tissue with two ventricles and two hippocampi."""
    i, j, k = np.indices(cohort.SHAPE)
    ball = lambda x, y, z, r: (i - x) ** 2 + (j - y) ** 2 + (k - z) ** 2 < r**2  # noqa: E731
    labels = np.zeros(cohort.SHAPE, np.int16)
    for label, place in {
        4: (44, 55, 65),
        43: (66, 55, 65),
        17: (40, 55, 40),
        53: (70, 55, 40),
    }.items():
        labels[ball(*place, 5)] = label
    brain = np.where(np.isin(labels, (4, 43)), 0.2, 0.8) * ball(55, 55, 52, 40)
    return cohort.make_template(brain, labels)


def test_patients_differ_from_themselves_where_the_truth_says(cohort, template):
    healthy, ill = (cohort.make_subject(template, label, 7) for label in (0, 1))
    assert not healthy.changed.any()
    difference = (healthy.scan - ill.scan).abs()
    assert difference[ill.changed].mean() > 20 * difference[~ill.changed].mean()
    again = cohort.make_subject(template, 1, 7)
    assert (again.scan == ill.scan).all()
    assert (again.scan != cohort.make_subject(template, 1, 8).scan).any()
    # the ventricles are larger, the hippocampi smaller
    volume = lambda subject, labels: np.isin(subject.labels, labels).sum()  # noqa: E731
    assert volume(ill, (4, 43)) > 1.1 * volume(healthy, (4, 43))
    assert volume(ill, (17, 53)) < 0.95 * volume(healthy, (17, 53))


def test_the_harder_cohort_shrinks_one_hippocampus_on_either_side(cohort, template):
    sides = set()
    for seed in range(3):
        ill = cohort.make_subject(template, 1, seed, "one-sided")
        middle = np.argwhere(ill.changed.numpy())[:, 0]
        assert middle.max() < 58 or middle.min() > 52
        assert abs(np.argwhere(ill.changed.numpy())[:, 2].mean() - 40) < 4  # no ventricle
        sides.add(middle.mean() < 55)
    assert sides == {True, False}


def test_a_cohort_on_disk(cohort, template, tmp_path, monkeypatch, capsys):
    make = load("make_sample_data")
    monkeypatch.setattr(make.cohort, "load_template", lambda: template)
    arguments = ["make", "cohort", str(tmp_path / "c"), "--subjects", "2", "--held-out"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--kind", "one-sided"])
    make.main()
    assert "2 scans" in capsys.readouterr().out
    with (tmp_path / "c" / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["Label"] for row in rows] == ["control", "shrinkage"]
    assert [bool(row["Truth"]) for row in rows] == [False, True]
    truth = nib.load(tmp_path / "c" / rows[1]["Truth"])
    assert set(np.unique(truth.dataobj)) == {0, 1}
    assert nib.load(tmp_path / "c" / rows[1]["Path"]).shape == cohort.SHAPE
    assert {17, 53} <= set(np.unique(nib.load(tmp_path / "c" / rows[0]["Rois"]).dataobj))
