import csv
import hashlib
import json
import threading
from collections import OrderedDict

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from napari_cnnvis.errors import MethodError, VolumeError
from napari_cnnvis.evaluate.trust.edges import edge_map
from napari_cnnvis.evaluate.trust.plot import draw
from napari_cnnvis.evaluate.trust.questions import TRUST_TESTS
from napari_cnnvis.evaluate.trust.report import trust_report
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.explain.run import explain
from napari_cnnvis.models.model import Model
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.volume import Volume

SHAPE = (24, 24, 24)
QUICK = {"steps": 5, "random_orders": 10, "random_networks": 4, "baseline": 0.0}
REQUEST = ExplainRequest("hirescam", "patient", layer="relu2", relu=False)


def network():
    layers = OrderedDict(
        conv1=nn.Conv3d(1, 4, 3, padding=1),
        relu1=nn.ReLU(),
        conv2=nn.Conv3d(4, 4, 3, padding=1),
        relu2=nn.ReLU(),
        pool=nn.AvgPool3d(4),
        flatten=nn.Flatten(),
        last=nn.Linear(4 * 6**3, 2),
    )
    return nn.Sequential(layers)


def wrap(net):
    return Model(net, ["control", "patient"], InputSpec(SHAPE, intensity="none"), "cpu")


@pytest.fixture(scope="module")
def model():
    """Hands the scan on, and adds up two places of it, one for and one against the patient."""
    net = network()
    with torch.no_grad():
        for name in ("conv1", "conv2"):
            conv = net.get_submodule(name)
            conv.weight.normal_(0, 0.01, generator=torch.Generator().manual_seed(0))
            conv.bias.zero_()
            conv.weight[0, 0, 1, 1, 1] = 1
        net.last.weight.zero_()
        net.last.bias.zero_()
        cells = net.last.weight.view(2, 4, 6, 6, 6)
        cells[1, 0, 1:3, 2:4, 2:4] = 4
        cells[1, 0, 4, 2:4, 2:4] = -1
        cells[0] = -0.5 * cells[1] + 0.01
    return wrap(net)


@pytest.fixture(scope="module")
def random_model():
    torch.manual_seed(3)
    return wrap(network())


@pytest.fixture(scope="module")
def scan():
    rng = np.random.default_rng(0)
    head = ((np.indices(SHAPE) - 11.5) ** 2).sum(0) < 11**2
    data = 0.6 + ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.5)
    return Volume(np.where(head, data, 0), np.diag([2.0, 2.0, 2.0, 1.0]), "scan")


@pytest.fixture(scope="module")
def given(scan):
    def make(data):
        record = {"method": "given", "class_name": "patient"}
        return Attribution(np.asarray(data, np.float32), scan.affine, record, scan)

    return make


@pytest.fixture(scope="module")
def report(model, scan):
    return trust_report(model, scan, REQUEST, **QUICK)


def hash_of(model):
    digest = hashlib.sha256()
    for tensor in model.module.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def test_a_true_map_passes(report):
    assert report.passed is True
    assert report.verdict.startswith("This map depends on what the network learned")
    assert "deletion" in report.verdict
    assert "blurry" in report.verdict
    assert {f.name for f in report.findings} == set(TRUST_TESTS)
    assert all(f.passed for f in report.findings)
    assert not report.partial


def test_a_random_network_is_called_out(random_model, scan):
    for method in ("hirescam", "grad-cam"):
        request = ExplainRequest(method, "patient", layer="relu2")
        found = trust_report(random_model, scan, request, tests=("response",), **QUICK)
        assert found.passed is False
        assert "random weights" in found.verdict


def test_an_edge_map_is_called_out(model, scan, given):
    edges = edge_map(scan.data, scan.spacing)
    for map_ in (edges, ndimage.gaussian_filter(edges, 1), np.maximum(edges - edges.mean(), 0)):
        found = trust_report(model, scan, given(map_), tests=("edges",), **QUICK)
        assert found.passed is False
        assert found.verdict == "This map can't be told from an edge detector."


def test_a_noise_map_is_called_out(model, scan, given):
    noise = np.random.default_rng(5).normal(size=SHAPE)
    tests = ("response", "edges", "deletion")
    found = trust_report(model, scan, given(noise), tests=tests, **QUICK)
    assert found.passed is False
    assert found.verdict.startswith("Taking out what this map marks")


def test_an_upside_down_map_is_said_to_be_one(model, scan, given, report):
    found = trust_report(model, scan, given(-report.attribution.data), tests=("deletion",), **QUICK)
    assert found.passed is False
    assert "upside down" in found.findings[0].sentence


def test_the_network_is_left_as_it_was(model, scan):
    before = hash_of(model)
    cancel = threading.Event()

    def stop(progress):
        if "random" in progress.what:
            cancel.set()

    trust_report(model, scan, REQUEST, progress=stop, cancel=cancel, **QUICK)
    assert cancel.is_set()
    assert hash_of(model) == before


def test_a_cancelled_report_keeps_the_tests_it_has(model, scan):
    cancel = threading.Event()
    texts = []

    def stop(progress):
        texts.append(progress.what)
        if progress.what.endswith("making layers random"):
            cancel.set()

    found = trust_report(model, scan, REQUEST, progress=stop, cancel=cancel, **QUICK)
    assert found.partial
    assert found.passed is None
    assert found.response is not None
    assert found.randomisation is None
    assert found.removal is None
    assert any(text.startswith("test 1 of 5: ") for text in texts)


def test_a_maps_record_is_enough_to_test_it(model, scan, report):
    same = trust_report(model, scan, report.attribution, **QUICK)
    assert same.verdict == report.verdict
    assert same.removal.to_dict() == report.removal.to_dict()
    assert same.randomisation.to_dict() == report.randomisation.to_dict()


def test_what_needs_another_map_is_left_out_of_a_foreign_one(model, scan, given, report):
    found = trust_report(model, scan, given(report.attribution.data), **QUICK)
    assert found.passed is None
    assert found.randomisation is None
    assert found.contrast is None
    assert len([note for note in found.notes if "left out" in note]) == 3


def test_a_map_of_other_weights_is_noted(model, random_model, scan):
    map_ = explain(random_model, scan, REQUEST)
    found = trust_report(model, scan, map_, tests=("edges",), **QUICK)
    assert any("other weights" in note for note in found.notes)


def test_sensitivity_is_tested_with_one_hierarchy(model, scan, monkeypatch):
    from napari_cnnvis.evaluate.trust import shared as trust_run

    built = []
    make = trust_run.build_hierarchy
    monkeypatch.setattr(
        trust_run, "build_hierarchy", lambda *a, **k: built.append(1) or make(*a, **k)
    )
    request = ExplainRequest("sensitivity", "patient", finest=20, baseline=0.0, score="logit")
    tests = ("contrast", "randomisation", "deletion")
    quick = {**QUICK, "baseline": None}
    found = trust_report(model, scan, request, tests=tests, stages=2, **quick)
    assert len(built) == 1
    assert len(found.randomisation.rows) == 2
    assert found.contrast.rows[0].class_name == "control"
    assert found.removal.baseline == "0"


def test_negatives_by_construction_are_no_evidence(model, scan):
    request = ExplainRequest("grad-cam", "patient", layer="relu2", score="probability")
    found = trust_report(model, scan, request, tests=("contrast",), **QUICK)
    assert found.findings[0].passed is None
    assert "by construction" in found.findings[0].sentence


def test_a_regression_is_tested_too(model, scan):
    value = Model(model.module, ["age", "mass"], model.input_spec, "cpu", output="regression")
    request = ExplainRequest("hirescam", "higher mass", layer="relu2", relu=False)
    found = trust_report(value, scan, request, **QUICK)
    assert found.removal.score == "value"
    assert found.contrast.by_construction
    assert found.passed is True


def test_files(report, tmp_path):
    folder = report.save(tmp_path / "new" / "folder")
    written = {path.name for path in folder.iterdir()}
    assert written == {"trust.json", "curves.csv", "trust.png", "trust.svg"}
    record = json.loads((folder / "trust.json").read_text())
    assert record["verdict"] == report.verdict
    assert record["provenance"]["map"]["method"] == "HiResCAM"
    assert len(record["randomisation"]["rows"]) == 3
    with (folder / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (3 + 10) * 7
    own = [float(r["score"]) for r in rows if r["test"] == "deletion" and r["curve"] == "map"]
    assert own == report.removal.deletion.map.tolist()


def test_a_file_in_the_way_is_reported(report, tmp_path, plain):
    (tmp_path / "file").write_text("")
    with pytest.raises(VolumeError) as error:
        report.save(tmp_path / "file")
    plain(error.value)


def test_the_plot_is_drawn_with_and_without_results(report, model, scan, given):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    empty = trust_report(model, scan, given(np.zeros(SHAPE)), tests=(), **QUICK)
    for one in (report, empty):
        figure = Figure(figsize=(7, 5), dpi=100)
        canvas = FigureCanvasAgg(figure)
        draw(one, figure, "white", "#202020")
        canvas.draw()
        names = {axes.get_title(loc="left") for axes in figure.axes}
        assert names == {"Deletion", "Insertion", "Random weights", "Response", "Edges"}
        renderer = canvas.get_renderer()
        for text in figure.texts:
            box = text.get_window_extent(renderer)
            assert box.x0 >= 0
            assert box.x1 <= 700
    assert empty.verdict.startswith("No test calls this map out, but too little is known")


@pytest.mark.parametrize(
    "wrong",
    [{"tests": ("guess",)}, {"score": "luck"}, {"steps": 0}, {"random_orders": 1}, {"stages": 0}],
)
def test_wrong_options_are_refused(model, scan, wrong, plain):
    with pytest.raises(MethodError) as error:
        trust_report(model, scan, REQUEST, **wrong)
    plain(error.value)


def test_a_map_of_another_scan_is_refused(model, scan, given, plain):
    other = Volume(scan.data[1:], scan.affine)
    with pytest.raises(MethodError) as error:
        trust_report(model, other, given(scan.data))
    plain(error.value)
    with pytest.raises(MethodError) as error:
        trust_report(model, scan, ExplainRequest("grad-cam", 0, layer="all"))
    plain(error.value)
