"""The panel Trust: maps of real small networks are tested; the verdict stays with the map."""

import json

import numpy as np
import pytest
import torch
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis._napari.explain.panel import ExplainPanel
from napari_cnnvis._napari.layers.maps import map_of, overlay_arguments, style_overlay
from napari_cnnvis._napari.layers.scans import layer_to_volume, snapshot, volume_to_layer
from napari_cnnvis._napari.trust.panel import TrustPanel
from napari_cnnvis._napari.trust.plot_window import picture_of
from napari_cnnvis._napari.trust.tested_map import subject_of
from napari_cnnvis.evaluate.trust.questions import TRUST_TESTS
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.explain.run import explain

from ..waiting import settle

RESNET = (
    "monai.networks.nets:resnet10(spatial_dims=3, n_input_channels=1, num_classes=2, "
    "widen_factor=0.125)"
)

#: what is quick
FEW = ("response", "edges")


def small_net(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(
        *(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 4, 3, stride=2), nn.ReLU()),
        *(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)),
    )
    return cv.Model(net, ["control", "patient"], device="cpu")


@pytest.fixture
def scan(viewer):
    data = np.random.default_rng(0).random((14, 15, 16)).astype(np.float32)
    data[:2] = data[:, :2] = 0
    volume = cv.Volume(data, np.diag([-2, 2, 2, 1.0]), "scan", source="scan.nii.gz")
    shown, arguments = volume_to_layer(volume)
    return viewer.add_image(shown, **arguments)


@pytest.fixture
def explain_panel(qtbot, viewer, scan):
    """Explain CNN with a network that was made in Python."""
    panel = ExplainPanel(viewer)
    qtbot.addWidget(panel)
    panel.use_model(small_net())
    settle(qtbot, panel)
    return panel


@pytest.fixture
def panel(qtbot, viewer):
    panel = TrustPanel(viewer)
    qtbot.addWidget(panel)
    panel.show()
    yield panel
    settle(qtbot, panel)


def add_map(viewer, scan, model, method="grad-cam", **more):
    volume = layer_to_volume(*snapshot(scan))
    made = explain(model, volume, ExplainRequest(method, "patient", **more))
    layer = viewer.add_image(made.data, **overlay_arguments(made, scan))
    return layer, made


def tick(panel, names):
    for name, box in panel.tests.items():
        box.setChecked(name in names)


def run_tests(qtbot, panel, names=FEW):
    tick(panel, names)
    panel.test_button.click()
    assert panel.jobs.busy, panel.status.text()
    assert not panel.test_button.isEnabled()
    settle(qtbot, panel)
    assert "⚠" not in panel.status.text(), panel.status.text()
    return panel.report


def test_the_panel_has_the_tests_of_the_library(panel):
    asked = {name: test.question for name, test in TRUST_TESTS.items()}
    assert {name: box.text() for name, box in panel.tests.items()} == asked
    assert all(box.isChecked() and box.toolTip() for box in panel.tests.values())


def test_without_a_map_it_says_what_to_do(panel, scan):
    assert "Explain CNN" in panel.box.verdict.text()
    for button in (panel.test_button, panel.cancel_button, panel.plot_button, panel.save_button):
        assert not button.isEnabled()
    panel.test()
    assert not panel.jobs.busy
    assert panel.show_plot() is None


def test_all_tests_give_one_verdict_and_findings(qtbot, panel, viewer, scan, explain_panel):
    layer, made = add_map(viewer, scan, explain_panel.network.model)
    assert "Not tested yet" in panel.box.verdict.text()
    report = run_tests(qtbot, panel, tuple(TRUST_TESTS))
    assert map_of(layer).trust is report
    np.testing.assert_array_equal(report.attribution.data, made.data)
    assert report.attribution.provenance["method"] == "Grad-CAM"
    assert report.verdict in panel.box.verdict.text()
    sign = {True: "✔", False: "✘", None: "?"}[report.passed]
    assert sign in panel.box.verdict.text()
    assert len(panel.box.findings) == len(report.findings) > 0
    for label, finding in zip(panel.box.findings, report.findings, strict=True):
        assert finding.title in label.text()
        assert finding.how.split()[0] in label.toolTip()
    assert all((report.response, report.edges, report.contrast, report.randomisation))
    assert report.removal is not None
    assert not report.partial
    assert panel.plot_button.isEnabled()
    assert panel.save_button.isEnabled()


def test_only_what_is_ticked_is_run(qtbot, panel, viewer, scan, explain_panel):
    add_map(viewer, scan, explain_panel.network.model)
    tick(panel, ())
    assert not panel.test_button.isEnabled()
    report = run_tests(qtbot, panel, ("edges",))
    assert report.edges is not None
    assert (report.response, report.contrast, report.randomisation, report.removal) == (None,) * 4


def test_the_verdict_stays_with_its_map(qtbot, panel, viewer, scan, explain_panel):
    first, _ = add_map(viewer, scan, explain_panel.network.model)
    report = run_tests(qtbot, panel)
    second, _ = add_map(viewer, scan, explain_panel.network.model, layer="3")
    panel.map.choose(second)
    assert "Not tested yet" in panel.box.verdict.text()
    assert not panel.plot_button.isEnabled()
    assert panel.box.findings == []
    panel.map.choose(first)
    assert report.verdict in panel.box.verdict.text()
    assert not panel.jobs.busy
    other = TrustPanel(viewer)
    qtbot.addWidget(other)
    other.map.choose(first)
    assert report.verdict in other.box.verdict.text()


def test_another_map_in_the_layer_makes_the_verdict_an_old_one(
    qtbot, panel, viewer, scan, explain_panel
):
    layer, _ = add_map(viewer, scan, explain_panel.network.model)
    run_tests(qtbot, panel)
    assert "was changed" not in panel.box.said.text()
    same = layer.data
    layer.data = layer.data * 2
    assert "was changed" in panel.box.said.text()
    assert not panel.box.said.isHidden()
    layer.data = same.copy()
    assert "was changed" not in panel.box.said.text()
    _, other = add_map(viewer, scan, explain_panel.network.model, layer="3")
    panel.map.choose(layer)
    style_overlay(layer, other)
    assert "was changed" in panel.box.said.text()
    report = run_tests(qtbot, panel)
    np.testing.assert_array_equal(report.attribution.data, other.data)
    assert "was changed" not in panel.box.said.text()


def test_what_is_hidden_of_a_map_is_tested_as_well(qtbot, panel, viewer, scan, explain_panel):
    from napari_cnnvis._napari.inspect.panel import InspectPanel

    layer, made = add_map(viewer, scan, explain_panel.network.model)
    inspect = InspectPanel(viewer)
    qtbot.addWidget(inspect)
    inspect.minimum.setValue(1e5)
    assert not layer.data.any()
    report = run_tests(qtbot, panel)
    np.testing.assert_array_equal(report.attribution.data, made.data)
    inspect.minimum.setValue(0)
    assert "was changed" not in panel.box.said.text()


def test_the_loaded_network_is_copied_and_left_alone(qtbot, panel, viewer, scan, explain_panel):
    model = explain_panel.network.model
    layer, _ = add_map(viewer, scan, model)
    before = model.weights_hash()
    copied = subject_of(layer, viewer.layers, explain_panel.network.loaded).model("cpu")
    assert copied.module is not model.module
    assert copied.weights_hash() == before
    assert copied.class_names == model.class_names
    run_tests(qtbot, panel, ("response", "randomisation"))
    assert model.weights_hash() == before
    assert explain_panel.network.model is model


def test_the_network_comes_from_its_file(qtbot, panel, viewer, scan, tmp_path):
    from monai.networks.nets import resnet10

    torch.manual_seed(1)
    net = resnet10(spatial_dims=3, n_input_channels=1, num_classes=2, widen_factor=0.125)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    model = cv.load_model(
        tmp_path / "net.pt", arch=RESNET, class_names=["control", "patient"], device="cpu"
    )
    layer, _ = add_map(viewer, scan, model)
    subject = subject_of(layer, viewer.layers, None)
    assert subject.model("cpu").weights_hash() == model.weights_hash()
    assert subject.model("cpu").input_spec == model.input_spec
    assert run_tests(qtbot, panel).edges is not None
    (tmp_path / "net.pt").unlink()
    panel.test_button.click()
    settle(qtbot, panel)
    assert "load it" in panel.status.text()
    assert panel.network.isVisible()
    panel.session.use(model)
    assert not panel.network.isVisible()
    settle(qtbot, panel.session)
    run_tests(qtbot, panel)  # with the network that was chosen instead
    panel.session.forget()
    assert "Traceback" not in panel.status.text()
    assert map_of(layer).trust is panel.report  # the last verdict is kept


def test_a_sensitivity_map_is_tested_on_its_own_regions(qtbot, panel, viewer, scan, explain_panel):
    hierarchy = cv.build_hierarchy(layer_to_volume(*snapshot(scan)), counts=[2, 6])
    volume = layer_to_volume(*snapshot(scan))
    made = cv.sensitivity(explain_panel.network.model, volume, hierarchy, target="patient")
    viewer.add_image(made.data, **overlay_arguments(made, scan))
    report = run_tests(qtbot, panel, ("contrast",))
    assert report.attribution.regions is made.regions


@pytest.mark.parametrize("missing", ["scan", "record", "shape", "method"])
def test_what_cannot_be_tested_says_why(qtbot, panel, viewer, scan, explain_panel, missing):
    layer, _ = add_map(viewer, scan, explain_panel.network.model)
    if missing == "scan":
        viewer.layers.remove(scan)
    elif missing == "shape":
        scan.data = np.zeros((5, 6, 7), np.float32)
    elif missing == "method":
        map_of(layer).provenance["method"] = "Difference"
    else:
        del map_of(layer).provenance["model"]
    panel.test_button.click()
    settle(qtbot, panel)
    text = panel.status.text()
    assert text.startswith("⚠")
    assert text.endswith(".")
    assert "unexpected" not in text
    assert panel.report is None


def test_a_cancelled_test_keeps_what_it_has(qtbot, panel, viewer, scan, explain_panel):
    add_map(viewer, scan, explain_panel.network.model)
    tick(panel, tuple(TRUST_TESTS))
    panel.test()
    assert panel.cancel_button.isEnabled()
    panel.cancel_button.click()
    settle(qtbot, panel)
    assert panel.report is None or panel.report.partial
    assert "unexpected" not in panel.status.text()
    if panel.report is not None:
        assert "Stopped" in panel.box.said.text()


def test_the_report_is_saved_in_a_folder_of_its_own(
    qtbot, panel, viewer, scan, explain_panel, tmp_path
):
    add_map(viewer, scan, explain_panel.network.model)
    report = run_tests(qtbot, panel)
    panel.save(tmp_path)
    settle(qtbot, panel)
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("trust-grad-cam-patient")
    assert folder.name in panel.status.text()
    assert json.loads((folder / "trust.json").read_text())["verdict"] == report.verdict
    assert (folder / "trust.png").stat().st_size > 1000
    panel.save(tmp_path / "nowhere" / "deeper")
    settle(qtbot, panel)
    assert "unexpected" not in panel.status.text()


def test_the_plot_is_drawn_at_the_windows_size(qtbot, panel, viewer, scan, explain_panel):
    add_map(viewer, scan, explain_panel.network.model)
    report = run_tests(qtbot, panel, (*FEW, "deletion"))
    pixels = picture_of(report, 640, 480, 96, ("#ffffff", "#202020"))
    assert pixels.shape == (480, 640, 4)
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 20
    window = panel.show_plot()
    qtbot.waitUntil(lambda: window.plot.image is not None, timeout=30_000)
    first = window.plot.image.width()
    window.resize(window.width() + 200, window.height())
    qtbot.waitUntil(lambda: window.plot.image.width() > first, timeout=30_000)
    assert window.status.isHidden()
    window.resize(window.width() + 50, window.height())
    window._draw()
    runner = window.jobs
    window.close()
    qtbot.waitUntil(lambda: not runner.busy, timeout=30_000)


def test_the_chosen_map_may_go_while_it_is_tested(qtbot, panel, viewer, scan, explain_panel):
    layer, _ = add_map(viewer, scan, explain_panel.network.model)
    tick(panel, FEW)
    panel.test()
    viewer.layers.remove(layer)
    settle(qtbot, panel)
    assert "Make a map first" in panel.box.verdict.text()
    assert map_of(layer).trust.edges is not None


def test_closing_leaves_nothing_connected(qtbot, viewer, scan, explain_panel):
    layer, _ = add_map(viewer, scan, explain_panel.network.model)
    count = len(layer.events.data.callbacks)
    panel = TrustPanel(viewer)
    assert len(layer.events.data.callbacks) == count + 1
    panel.closed()
    assert len(layer.events.data.callbacks) == count
    panel.docked()
    assert len(layer.events.data.callbacks) == count + 1
    tick(panel, tuple(TRUST_TESTS))
    panel.test()
    runner = panel.jobs
    panel.deleteLater()
    QApplication.sendPostedEvents(panel, QEvent.Type.DeferredDelete)
    qtbot.waitUntil(lambda: not runner.busy, timeout=60_000)
    assert len(layer.events.data.callbacks) == count
    assert map_of(layer).trust is None
