"""Summary, text and pictures of a benchmark."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from napari_cnnvis.evaluate.benchmark.figure import write_figures
from napari_cnnvis.evaluate.benchmark.report import markdown, write_report
from napari_cnnvis.evaluate.benchmark.rows import METRICS
from napari_cnnvis.evaluate.benchmark.summary import headlines, summarise
from napari_cnnvis.evaluate.benchmark.table import TRUTH


def test_summary_has_means_and_deviations(everything):
    result, folder = everything
    summary = summarise(result.rows)
    one = next(s for s in summary if s.facts.method == "Depth in the brain" and s.region == "left")
    scores = [
        r.scores.roc_auc
        for r in result.rows
        if (r.model, r.facts.method, r.region) == (one.model, "Depth in the brain", "left")
    ]
    assert one.n == 2
    assert one.mean["roc_auc"] == pytest.approx(np.mean(scores))
    assert one.std["roc_auc"] == pytest.approx(np.std(scores))
    write_report(summary, folder)
    with (folder / "summary.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(summary)
    assert float(lines[0]["roc_auc_mean"]) == pytest.approx(summary[0].mean["roc_auc"], rel=1e-5)


def test_headlines_show_the_recommended_and_the_best_layer(everything):
    summary = summarise(everything[0].rows)
    lines = {line.label: line for line in headlines(summary, "exact")}
    assert lines["Grad-CAM 1 (recommended, best of 2 layers)"].truth.mean["roc_auc"] == 1
    assert "Grad-CAM 0" not in lines
    assert lines["UCM sensitivity, 0, absolute"]  # no more than what tells it apart
    assert list(lines)[-1] == "Edges of the scan"


def test_the_report_can_be_read(everything):
    text = markdown(summarise(everything[0].rows))
    for part in (
        "## exact",
        "| method | ROC-AUC | average precision |",
        "| CAM | 1.00 ± 0.00 |",
        "- UCM sensitivity: levels 12/6, margin 2 mm, probability",
        "| method | truth | left | both |",
        "| layer | cells | mm | Grad-CAM | Grad-CAM++ | HiResCAM | LayerCAM |",
        "16 x 17 x 15 | 2 |",
    ):
        assert part in text
    (header,) = [line for line in text.splitlines() if "average precision |" in line]
    assert header.count("|") == len(METRICS) + 3


def test_pictures_are_drawn(everything, tmp_path):
    summary = summarise(everything[0].rows)
    names = {path.name for path in write_figures(summary, tmp_path)}
    stems = ("localisation", "resolution", "regions")
    assert names == {f"{stem}{ending}" for stem in stems for ending in (".png", ".svg")}
    assert all((tmp_path / name).stat().st_size > 5000 for name in names)
    svg = (tmp_path / "localisation.svg").read_text()
    assert "UCM sensitivity" in svg


def test_pictures_that_have_nothing_to_show_are_left_out(everything, tmp_path):
    summary = [
        s
        for s in summarise(everything[0].rows)
        if s.region == TRUTH and s.facts.method == "Box occlusion"
    ]
    assert {path.stem for path in write_figures(summary, tmp_path)} == {"localisation"}
    others = [s for s in summarise(everything[0].rows) if s.facts.layer and s.region == TRUTH]
    both = [*(replace(s, model="no layers") for s in summary), *others]
    assert len(write_figures(both, tmp_path)) == 4
    assert "no layers" not in (tmp_path / "resolution.svg").read_text()
