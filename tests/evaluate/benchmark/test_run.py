"""The benchmark on a network whose CAM is the planted region, and on others."""

import csv
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis.errors import MethodError, VolumeError
from napari_cnnvis.evaluate.benchmark import methods as benchmark_methods
from napari_cnnvis.evaluate.benchmark import run as benchmark
from napari_cnnvis.evaluate.benchmark.figure import write_figures
from napari_cnnvis.evaluate.benchmark.methods import methods_of, slic_level
from napari_cnnvis.evaluate.benchmark.options import BENCHMARKED, BenchmarkOptions, parse_region
from napari_cnnvis.evaluate.benchmark.report import markdown, write_report
from napari_cnnvis.evaluate.benchmark.rows import METRICS, RowStore, ScoreRow
from napari_cnnvis.evaluate.benchmark.run import run_benchmark
from napari_cnnvis.evaluate.benchmark.summary import headlines, summarise
from napari_cnnvis.evaluate.benchmark.table import TRUTH, read_benchmark_table

SHAPE = (16, 17, 15)
AFFINE = np.diag([-2.0, 2.0, 2.0, 1.0])
ROIS = {"left": (3,), "both": (3, 4)}
ALL = BenchmarkOptions(
    size=3,
    stride=3,
    levels=(12, 6),
    margins=(2,),
    baselines=(0, "border"),
    quantities=("drop", "absolute"),
)
QUICK = BenchmarkOptions(["cam", "grad-cam", "random"])


def write(data, path):
    cv.write_volume(cv.Volume(np.asarray(data, np.float32), AFFINE), path)


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


def make_model(offset=-0.6, cells=1):
    """With one cell its score is the mean of what exceeds an intensity: that is its CAM, too."""
    module = nn.Sequential(
        nn.Conv3d(1, 1, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(cells),
        nn.Flatten(),
        nn.Linear(cells**3, 2),
    )
    with torch.no_grad():
        module[0].weight.fill_(1)
        module[0].bias.fill_(offset)
        module[-1].weight[:] = torch.tensor([[-20.0], [20.0]])
        module[-1].bias.fill_(0)
    spec = cv.InputSpec(intensity="none")
    return cv.Model(module, class_names=["control", "AD"], input_spec=spec, device="cpu")


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
    maps = cv.grad_cam(models["exact"], scan.volume, "AD", "all", relu=False)
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

    for name in ("box_sensitivity", "sensitivity", "cam", "gradient_maps"):
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
    make = benchmark_methods.gradient_maps

    def counted(*args, **kwargs):
        computed.append(args)
        return make(*args, **kwargs)

    monkeypatch.setattr(benchmark_methods, "gradient_maps", counted)
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
    def fail(*args):
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


def test_table_gives_what_has_a_truth(study):
    scans, left_out = read_benchmark_table(study / "table.csv")
    assert [scan.entry.name for scan in scans] == ["p0", "p1"]
    assert (scans[0].entry.label, scans[0].entry.subject) == ("AD", "s0")
    assert left_out == 1
    assert len(read_benchmark_table(study / "table.csv", limit=1)[0]) == 1
    read = scans[0].read(ROIS)
    assert list(read.regions) == [TRUTH, "left", "both"]
    np.testing.assert_array_equal(read.inside, read.volume.data > 0)
    assert not (read.regions["left"] & ~read.inside).any()


def test_a_mask_says_what_counts(study):
    inside = np.zeros(SHAPE)
    inside[4:12, 4:12, 4:12] = 1
    write(inside, study / "inside.nii.gz")
    (study / "inside.csv").write_text(
        "Path,Truth,Inside\np0.nii.gz,p0_truth.nii.gz,inside.nii.gz\n"
    )
    read = read_benchmark_table(study / "inside.csv")[0][0].read({})
    np.testing.assert_array_equal(read.inside, inside > 0)


def test_every_bad_row_is_listed_at_once(study, plain):
    write(np.ones((4, 4, 4)), study / "small.nii.gz")
    write(np.zeros(SHAPE), study / "empty.nii.gz")
    write(np.ones(SHAPE), study / "full.nii.gz")
    good = "p0.nii.gz,p0_truth.nii.gz,p0_rois.nii.gz"
    rows = [
        good,
        "gone.nii.gz,p0_truth.nii.gz,p0_rois.nii.gz",
        "p0.nii.gz,gone.nii.gz,p0_rois.nii.gz",
        "p0.nii.gz,small.nii.gz,p0_rois.nii.gz",
        "p0.nii.gz,empty.nii.gz,p0_rois.nii.gz",
        "p0.nii.gz,full.nii.gz,p0_rois.nii.gz",
        "p0.nii.gz,p0_truth.nii.gz,",
        "p0.nii.gz,p0_truth.nii.gz,p0.nii.gz",
        "p0.nii.gz,p0_truth.nii.gz,empty.nii.gz",
        good,
    ]
    (study / "bad.csv").write_text("\n".join(["Path,Truth,Rois", *rows]))
    with pytest.raises(VolumeError) as caught:
        read_benchmark_table(study / "bad.csv", {"left": (3,)})
    text = plain(caught.value, "bad.csv")
    assert text.startswith("8 row(s)")
    for part in (
        "row 3 (gone): missing file;",
        "row 4",
        "There is no file",
        "small.nii.gz (4 x 4 x 4 voxels) is not on the grid of the scan (16 x 17 x 15)",
        "row 6 (p0): the region 'truth' has no voxel",
        "row 7 (p0): the region 'truth' fills the whole brain",
        "row 8 (p0): the column Rois is empty",
        "row 9 (p0): p0.nii.gz holds numbers that are not whole",
        "row 10 (p0): the region 'left' has no voxel",
    ):
        assert part in text
    assert len(read_benchmark_table(study / "bad.csv", limit=1)[0]) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Path\np0.nii.gz\n", "no column 'Truth'"),
        ("Truth\np0_truth.nii.gz\n", "no column 'Path'"),
        ("Path,Truth\np0.nii.gz,\n", "no row with a file in the column 'Truth'"),
        ("Path,Truth\n", "no rows|no row"),
    ],
)
def test_a_table_without_truths_is_refused(study, plain, text, message):
    (study / "other.csv").write_text(text)
    with pytest.raises(VolumeError, match=message) as caught:
        read_benchmark_table(study / "other.csv")
    plain(caught.value, "other.csv")
    with pytest.raises(VolumeError, match="is not a table"):
        read_benchmark_table(study / "nothing.csv")


def test_regions_by_their_labels():
    assert parse_region("hippocampus=17,53") == ("hippocampus", (17, 53))
    assert parse_region("the cortex = 1-3, 3,8-9") == ("the cortex", (1, 2, 3, 8, 9))


@pytest.mark.parametrize("text", ["", "a", "a=", "=3", "a=x", "a=0", "a=3-1", "a=1,,2", "a=-3"])
def test_regions_that_are_not_written_well(text, plain):
    with pytest.raises(MethodError, match="does not say which labels") as caught:
        parse_region(text)
    plain(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"methods": ["gradcam"]},
        {"methods": []},
        {"levels": []},
        {"levels": [0, 10]},
        {"margins": []},
        {"margins": [-1]},
        {"joins": ["sum"]},
        {"scores": []},
        {"alignments": ["none"]},
        {"baselines": ["black"]},
        {"size": 0},
        {"stride": 0.5},
    ],
)
def test_bad_options_are_refused(wrong, plain):
    with pytest.raises(MethodError) as caught:
        BenchmarkOptions(**wrong)
    plain(caught.value)


def test_slic_gives_about_as_many_supervoxels_as_asked(scans):
    scan = scans[0].read({})
    labels = slic_level(scan.volume, 20)
    assert 15 <= len(np.unique(labels[labels > 0])) <= 25
    np.testing.assert_array_equal(labels > 0, scan.inside)


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
