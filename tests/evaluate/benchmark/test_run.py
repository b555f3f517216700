"""The benchmark on a network whose CAM is the planted region, and on others."""

import csv
import threading

import numpy as np
import pytest

import napari_cnnvis as cv
from napari_cnnvis.errors import MethodError
from napari_cnnvis.evaluate.benchmark import methods as benchmark_methods
from napari_cnnvis.evaluate.benchmark import run as benchmark
from napari_cnnvis.evaluate.benchmark.methods import methods_of, slic_level
from napari_cnnvis.evaluate.benchmark.options import BENCHMARKED, BenchmarkOptions
from napari_cnnvis.evaluate.benchmark.rows import RowStore, ScoreRow
from napari_cnnvis.evaluate.benchmark.run import run_benchmark
from napari_cnnvis.evaluate.benchmark.table import TRUTH

from .planted import ALL, ROIS, make_model

QUICK = BenchmarkOptions(["cam", "grad-cam", "random"])


def test_every_method_has_rows_of_every_scan_and_region(everything, scans):
    result, _ = everything
    assert result.complete
    assert result.problems == ()
    found = {(r.model, r.scan, r.facts.method, r.region) for r in result.rows}
    regions = [TRUTH, *ROIS]
    for scan in scans:
        for region in regions:
            for method in BENCHMARKED.values():
                assert ("exact", scan.entry.name, method, region) in found
    assert all(r.facts.seconds > 0 for r in result.rows)


def test_a_method_that_does_not_apply_is_left_out(models, scans, tmp_path):
    result = run_benchmark({"other": models["other"]}, scans, "AD", tmp_path, QUICK)
    assert {r.facts.method for r in result.rows} == {"Grad-CAM", "Random"}
    assert result.complete


def test_what_is_known_of_the_network_is_found(everything):
    result, _ = everything

    def scores(method, layer="", setting=""):
        wanted = (TRUTH, method, layer, setting)
        found = [
            r.scores
            for r in result.rows
            if (r.region, r.facts.method, r.facts.layer, r.facts.setting) == wanted
        ]
        assert len(found) == 2
        return found

    for found in scores("CAM", "1") + scores("Grad-CAM", "1") + scores("LayerCAM", "1"):
        assert found.roc_auc == found.mass_accuracy == found.best_dice == 1
    for found in scores("Box occlusion", "", "3 voxels, stride 3, 0, probability"):
        assert found.roc_auc > 0.9
    for found in scores("Random"):
        assert 0.3 < found.roc_auc < 0.7


def test_settings_tell_the_maps_apart(everything):
    result, _ = everything
    found = {r.facts.setting for r in result.rows if r.facts.method == "UCM sensitivity"}
    assert len(found) == 3 * 2  # baselines and their mean, absolute or not
    assert "levels 12/6, margin 2 mm, mean of 0 and border, probability, absolute" in found


def test_scores_are_those_of_the_map(everything, models, scans):
    result, _ = everything
    scan = scans[0].read(ROIS)
    maps = cv.grad_cam(models["exact"], scan.volume, "AD", layer="all", relu=False)
    (row,) = [
        r
        for r in result.rows
        if (r.model, r.scan, r.region) == ("exact", "p0", "left")
        and (r.facts.method, r.facts.layer) == ("Grad-CAM", "1")
    ]
    expected = cv.roc_auc(maps["1"].data, scan.regions["left"], scan.inside)
    assert row.scores.roc_auc == pytest.approx(expected)
    assert row.facts.cells == "16 x 17 x 15"
    assert row.facts.cell_mm == pytest.approx(2)


def test_rows_are_in_the_table(everything):
    result, folder = everything
    with (folder / "scores.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(result.rows)
    assert list(lines[0]) == ScoreRow.header()
    for line, row in zip(lines, result.rows, strict=True):
        assert (line["model"], line["region"]) == (row.model, row.region)
        assert float(line["roc_auc"]) == pytest.approx(row.scores.roc_auc, rel=1e-5)


@pytest.fixture
def no_network(monkeypatch):
    """Fails if any map is computed."""

    def refuse(*args, **kwargs):
        pytest.fail("a map was computed again")  # no Exception, which would be one scan's problem

    for name in ("box_sensitivity", "sensitivity", "cam", "explain"):
        monkeypatch.setattr(benchmark_methods, name, refuse)


def test_nothing_is_computed_twice(everything, models, scans, no_network):
    result, folder = everything
    again = run_benchmark({"other name": models["exact"]}, scans, 1, folder, ALL, ROIS)
    assert [(r.facts, r.region, r.scores) for r in again.rows] == [
        (r.facts, r.region, r.scores) for r in result.rows
    ]
    assert {r.model for r in again.rows} == {"other name"}


@pytest.mark.parametrize(
    "change",
    [
        {"target": "control"},
        {"rois": {"left": (3,)}},
        {"tolerance": 2},
        {"models": {"exact": make_model(offset=-0.55)}},
        {"options": BenchmarkOptions(["cam"], alignments=["receptive field"])},
    ],
)
def test_what_changes_a_score_is_computed_anew(models, scans, tmp_path, no_network, change):
    same = {
        "models": {"exact": models["exact"]},
        "scans": scans[:1],
        "target": "AD",
        "folder": tmp_path,
        "options": BenchmarkOptions(["cam"]),
        "rois": ROIS,
        "tolerance": 0,
    }
    (method,) = methods_of(same["options"])
    key = benchmark._key(benchmark.ResultKeys(models["exact"]), scans[0], 1, method, ROIS, 0)
    RowStore(tmp_path / "rows").put(key, [])
    assert run_benchmark(**same).complete
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        run_benchmark(**(same | change))


def test_a_run_that_is_killed_goes_on(models, scans, tmp_path, monkeypatch):
    told = []

    def killed(progress):
        told.append(progress)
        if progress.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_benchmark(models, scans, "AD", tmp_path, QUICK, ROIS, progress=killed)
    assert [p.done for p in told] == [0, 1, 2, 3, 4]
    assert told[4].total == 2 * 2 * 3
    assert told[4].what == "exact, p1, Grad-CAM"
    kept = (tmp_path / "scores.csv").read_text().splitlines()
    assert {line.split(",")[1] for line in kept[1:]} == {"p0", "p1"}
    computed = []
    make = benchmark_methods.explain

    def counted(*args, **kwargs):
        computed.append(args)
        return make(*args, **kwargs)

    monkeypatch.setattr(benchmark_methods, "explain", counted)
    result = run_benchmark(models, scans, "AD", tmp_path, QUICK, ROIS)
    assert result.complete
    assert len(computed) == 3  # one of four was there
    assert {(r.model, r.scan) for r in result.rows} == {
        (m, s) for m in ("exact", "other") for s in ("p0", "p1")
    }


def test_cancelling_keeps_what_is_complete(models, scans, tmp_path):
    cancel = threading.Event()

    def press(progress):
        if progress.done == 1:
            cancel.set()

    result = run_benchmark(models, scans, "AD", tmp_path, QUICK, progress=press, cancel=cancel)
    assert not result.complete
    assert {r.facts.method for r in result.rows} == {"CAM"}
    assert len(list((tmp_path / "rows").iterdir())) == 1


def test_a_damaged_row_is_computed_again(models, scans, tmp_path):
    one = BenchmarkOptions(["random"]), ROIS
    first = run_benchmark(models, scans[:1], "AD", tmp_path, *one)
    for file in (tmp_path / "rows").iterdir():
        file.write_text("[{")
    again = run_benchmark(models, scans[:1], "AD", tmp_path, *one)
    assert [r.scores for r in again.rows] == [r.scores for r in first.rows]


def test_a_method_that_fails_does_not_stop_the_others(models, scans, tmp_path, monkeypatch):
    def fail(*args, **how):
        raise MethodError("This cannot be.")

    monkeypatch.setattr(benchmark_methods, "cam", fail)
    one = {"exact": models["exact"]}
    result = run_benchmark(one, scans, "AD", tmp_path, QUICK)
    assert result.problems == tuple(f"exact, p{n}, CAM: This cannot be." for n in (0, 1))
    assert {r.facts.method for r in result.rows} == {"Grad-CAM", "Random"}


@pytest.mark.parametrize("error", [KeyError("axes"), MemoryError(), RuntimeError("one\ntwo")])
def test_an_unexpected_error_does_not_stop_the_others(
    models, scans, tmp_path, monkeypatch, plain, caplog, error
):
    real = benchmark_methods.cam

    def stumbles(model, volume, *args, **kwargs):
        if volume.name == "p0":
            raise error
        return real(model, volume, *args, **kwargs)

    monkeypatch.setattr(benchmark_methods, "cam", stumbles)
    result = run_benchmark({"exact": models["exact"]}, scans, "AD", tmp_path, QUICK)
    assert result.complete
    (problem,) = result.problems
    assert problem.startswith("exact, p0, CAM: ")
    assert "\n" not in problem
    found = {(r.scan, r.facts.method) for r in result.rows}
    assert found == {(s, m) for s in ("p0", "p1") for m in ("CAM", "Grad-CAM", "Random")} - {
        ("p0", "CAM")
    }
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [error]


def test_only_layers_that_are_asked_for(models, scans, tmp_path):
    options = BenchmarkOptions(["grad-cam", "hirescam"], layers=["1"])
    result = run_benchmark(models, scans[:1], "AD", tmp_path, options)
    assert {r.facts.layer for r in result.rows} == {"1"}
    with pytest.raises(MethodError, match="No network has a target layer '9'; there are 0, 1"):
        run_benchmark(
            models, scans, "AD", tmp_path, BenchmarkOptions(["grad-cam"], layers=["1", "9"])
        )


def test_an_unknown_class_is_refused_before_anything_is_run(models, scans, tmp_path, no_network):
    with pytest.raises(MethodError, match="no class 'unknown'"):
        run_benchmark(models, scans, "unknown", tmp_path / "new", QUICK)
    assert not (tmp_path / "new").exists()


def test_slic_gives_about_as_many_supervoxels_as_asked(scans):
    scan = scans[0].read({})
    labels = slic_level(scan.volume, 20)
    assert 15 <= len(np.unique(labels[labels > 0])) <= 25
    np.testing.assert_array_equal(labels > 0, scan.inside)
