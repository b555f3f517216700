"""The panel without a canvas: what it says, offers and greys out."""

import numpy as np
import pytest
import torch
from qtpy.QtCore import Qt

from napari_cnnvis._napari.explain.panel import ExplainPanel
from napari_cnnvis.explain.registry import methods
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.models.networks.vox import VoxResNetGAP, VoxVGG

METHODS = {key: method.title for key, method in methods().items()}


@pytest.fixture
def panel(opened):
    return opened(ExplainPanel)


@pytest.fixture
def gap_file(tmp_path):
    from napari_cnnvis import InputSpec, save_model

    torch.manual_seed(0)
    return save_model(
        VoxResNetGAP(), tmp_path / "gap.safetensors", ["control", "atrophy"], InputSpec()
    )


def add_scan(panel, shape=(16, 18, 20), **kwargs):
    data = np.random.default_rng(0).random(shape).astype(np.float32)
    return panel.viewer.add_image(data, **{"name": "scan", "rgb": False} | kwargs)


def load(qtbot, panel, path):
    panel.load_model(path)
    qtbot.waitUntil(lambda: panel.ready and not panel.jobs.busy, timeout=60_000)


def run(qtbot, panel, method):
    panel.method_form.method.setCurrentIndex(panel.method_form.method.findData(method))
    panel.run()
    qtbot.waitUntil(lambda: not panel.jobs.busy, timeout=60_000)


def test_empty_panel_says_what_to_do(panel):
    assert "Open a scan" in panel.network.recognised.text()
    assert not panel.run_button.isEnabled()
    add_scan(panel)
    assert "Choose a checkpoint" in panel.network.recognised.text()


def test_recognised_network_with_the_scans_probabilities(qtbot, panel, gap_file):
    add_scan(panel, shape=(24, 26, 28))
    load(qtbot, panel, gap_file)
    text = panel.network.recognised.text()
    assert "VoxResNetGAP" in text
    assert "control" in text
    assert "%" in text
    assert panel.run_button.isEnabled()
    layer = panel.method_form.layer
    assert layer.current == "relu4"
    layer.resize(400, 30)
    assert layer.text() == "relu4  (64 × 12 × 13 × 14) ★"


def test_cam_is_greyed_with_its_reason_without_a_gap_head(qtbot, panel, tmp_path):
    torch.save(VoxVGG().state_dict(), tmp_path / "vgg.pt")
    add_scan(panel)
    load(qtbot, panel, tmp_path / "vgg.pt")
    item = panel.method_form.method.model().item(panel.method_form.method.findData("cam"))
    assert not item.flags() & Qt.ItemFlag.ItemIsEnabled
    assert "CAM does not apply" in panel.method_form.reason.text()


def test_a_wrong_file_is_one_plain_sentence(qtbot, panel, tmp_path):
    (tmp_path / "broken.pt").write_bytes(b"no checkpoint")
    panel.load_model(tmp_path / "broken.pt")
    qtbot.waitUntil(lambda: not panel.jobs.busy, timeout=10_000)
    assert "broken.pt is not a checkpoint" in panel.status.text()
    assert "Traceback" not in panel.status.text()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_adds_an_overlay_on_its_scan(qtbot, panel, gap_file, method):
    scan = add_scan(panel, scale=(2, 3, 4), translate=(5, 6, 7))
    load(qtbot, panel, gap_file)
    panel.method_form.choose_method(method)
    panel.method_form.field("finest").setValue(8)
    panel.method_form.field("stride").setValue(8)
    panel.method_form.field("samples").setValue(2)
    run(qtbot, panel, method)
    overlay = panel.viewer.layers[-1]
    assert len(panel.viewer.layers) == 2
    assert overlay.data.shape == scan.data.shape
    assert overlay.colorbar.visible
    np.testing.assert_array_equal(overlay.data_to_world((1, 2, 3)), scan.data_to_world((1, 2, 3)))
    assert panel.scan.layer is scan


def test_each_method_keeps_its_own_values_and_begins_with_the_defaults(panel):
    form = panel.method_form
    form.choose_method("sensitivity")
    changed = {
        form.field("smooth"): 12,
        form.field("margin"): 6,
        form.field("finest"): 150,
        form.field("time_budget"): 30,
    }
    for widget, value in changed.items():
        widget.setValue(value)
    form.field("quantity").setCurrentIndex(form.field("quantity").findData("absolute"))
    form.field("precision").setCurrentIndex(1)
    before = form.request()
    for method in ("box", "grad-cam", "layercam"):
        form.choose_method(method)
        assert form.request() == ExplainRequest(method, -1)
    form.choose_method("sensitivity")
    assert form.request() == before


def test_map_in_the_panel_is_the_librarys(qtbot, panel, gap_file):
    import napari_cnnvis as cv

    scan = add_scan(panel)
    load(qtbot, panel, gap_file)
    run(qtbot, panel, "grad-cam")
    model = cv.load_model(gap_file)
    target = panel.method_form.target.currentIndex()
    expected = cv.grad_cam(model, cv.Volume(scan.data), target)
    np.testing.assert_allclose(panel.viewer.layers[-1].data, expected.data, rtol=1e-4, atol=1e-9)


def test_changing_the_layer_shows_its_map_without_a_run(qtbot, panel, gap_file):
    add_scan(panel)
    load(qtbot, panel, gap_file)
    run(qtbot, panel, "grad-cam")
    overlay = panel.viewer.layers[-1]
    before = overlay.data.copy()
    panel.method_form.layer.choose("conv1b")
    assert not panel.jobs.busy
    assert overlay.name.endswith("conv1b")
    assert not np.array_equal(overlay.data, before)


def test_changing_the_alignment_moves_the_map_without_a_run(qtbot, panel, gap_file):
    add_scan(panel)
    load(qtbot, panel, gap_file)
    run(qtbot, panel, "grad-cam")
    overlay = panel.viewer.layers[-1]
    panel.method_form.layer.choose("relu4")
    before = overlay.data.copy()
    panel.method_form.field("alignment").setCurrentIndex(1)
    assert not panel.jobs.busy
    assert not np.array_equal(overlay.data, before)
    panel.method_form.field("alignment").setCurrentIndex(0)
    np.testing.assert_array_equal(overlay.data, before)


def test_what_lies_outside_the_head_can_be_hidden_and_shown_again(qtbot, panel, gap_file):
    data = np.zeros((24, 24, 24), np.float32)
    data[6:18, 6:18, 6:18] = np.random.default_rng(0).uniform(0.5, 1, (12, 12, 12))
    panel.viewer.add_image(data, name="brain")
    load(qtbot, panel, gap_file)
    panel.method_form.field("relu").setChecked(False)
    run(qtbot, panel, "grad-cam")
    overlay = panel.viewer.layers[-1]
    everything = overlay.data.copy()
    assert "outside the head" in panel.status.text()
    panel.method_form.head_only.setChecked(True)
    np.testing.assert_array_equal(overlay.data, np.where(data > 0, everything, 0))
    panel.method_form.head_only.setChecked(False)
    np.testing.assert_array_equal(overlay.data, everything)


def test_a_second_run_adds_a_second_overlay(qtbot, panel, gap_file):
    add_scan(panel)
    load(qtbot, panel, gap_file)
    run(qtbot, panel, "cam")
    first = panel.viewer.layers[-1].data
    run(qtbot, panel, "grad-cam")
    assert len(panel.viewer.layers) == 3
    assert panel.viewer.layers[1].data is first


def test_cancelled_sensitivity_keeps_its_partial_map(qtbot, panel, gap_file):
    add_scan(panel, shape=(40, 40, 40))
    load(qtbot, panel, gap_file)
    panel.method_form.method.setCurrentIndex(panel.method_form.method.findData("sensitivity"))
    panel.method_form.field("finest").setValue(400)
    panel.run()
    qtbot.waitUntil(lambda: len(panel.viewer.layers) == 2, timeout=60_000)
    panel.cancel_button.click()
    qtbot.waitUntil(lambda: not panel.jobs.busy, timeout=60_000)
    assert panel.viewer.layers[-1].name.endswith("(partial)")
    assert "Cancelled" in panel.status.text()
    assert np.abs(panel.viewer.layers[-1].data).max() > 0


def test_scan_removed_during_a_run_does_no_harm(qtbot, panel, gap_file):
    scan = add_scan(panel)
    load(qtbot, panel, gap_file)
    panel.run()
    panel.viewer.layers.remove(scan)
    qtbot.waitUntil(lambda: not panel.jobs.busy, timeout=60_000)
    assert len(panel.viewer.layers) == 1
    assert "Grad-CAM" in panel.viewer.layers[0].name
    assert panel.scan.layer is None


def test_scan_list_follows_the_viewer_and_leaves_overlays_out(qtbot, panel, gap_file):
    first = add_scan(panel)
    second = add_scan(panel, name="other")
    names = [panel.scan.itemText(i) for i in range(panel.scan.count())]
    assert names == ["scan", "other"]
    second.name = "renamed"
    assert panel.scan.itemText(1) == "renamed"
    panel.scan.choose(first)
    load(qtbot, panel, gap_file)
    run(qtbot, panel, "cam")
    assert panel.scan.count() == 2
    assert panel.scan.layer is first


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PySide6 has another constructor
def test_a_dropped_checkpoint_is_loaded(qtbot, panel, gap_file):
    from qtpy.QtCore import QMimeData, QPoint, QPointF, QUrl
    from qtpy.QtGui import QDragEnterEvent, QDropEvent

    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(gap_file))])
    add_scan(panel)
    nothing = Qt.KeyboardModifier.NoModifier, Qt.MouseButton.LeftButton
    enter = QDragEnterEvent(QPoint(1, 1), Qt.DropAction.CopyAction, mime, nothing[1], nothing[0])
    panel.network.picker.dragEnterEvent(enter)
    assert enter.isAccepted()
    panel.network.picker.dropEvent(
        QDropEvent(QPointF(1, 1), Qt.DropAction.CopyAction, mime, nothing[1], nothing[0])
    )
    qtbot.waitUntil(lambda: panel.ready and not panel.jobs.busy, timeout=60_000)
    assert "VoxResNetGAP" in panel.network.recognised.text()
