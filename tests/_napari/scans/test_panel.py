"""The panel "Scans" as a whole: listing, what is lacking, a window."""

import os

import numpy as np
import pytest
import torch
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis._napari.layers.scans import layer_to_volume, snapshot
from napari_cnnvis._napari.scans.scan_table import MARK, NAME
from napari_cnnvis.models.model import Model

from .study_steps import column, expected_map, idle, open_study, run_on_all, show, write_scan


def test_an_empty_panel_says_what_to_do(open_panel):
    panel = open_panel()
    assert "Open a folder" in panel.status.text()
    assert not panel.run_button.isEnabled()
    assert panel.minimumWidth() >= 380


def test_a_table_is_listed_and_its_first_scan_shown(qtbot, open_panel, study):
    panel = open_panel()
    open_study(qtbot, panel, study)
    assert column(panel, NAME) == ["s0", "s1", "s2", "s3", "s4", "s5", "s9"]
    assert column(panel, MARK) == [""] * 7
    assert "missing file" in column(panel, 4)[6]
    assert panel.status.text() == "" or "1 of 7 cannot be read" in panel.status.text()
    assert panel.layer.name == "s0"
    assert panel.scans.view.currentIndex().row() == 0
    assert panel.scans.position.text() == "1 of 7"
    assert not panel.scans.previous.isEnabled()


def test_what_cannot_be_opened_is_one_sentence(qtbot, open_panel, tmp_path):
    panel = open_panel()
    (tmp_path / "m.csv").write_text("file,dx\na,b\n")
    panel.open(tmp_path / "m.csv")
    qtbot.waitUntil(lambda: not panel.jobs.busy, timeout=10_000)
    assert "m.csv has no column 'Path'; its columns are 'file', 'dx'." in panel.status.text()


def test_a_scan_that_cannot_be_read_leaves_the_last_one(qtbot, open_panel, study):
    panel = open_panel()
    open_study(qtbot, panel, study)
    panel.show_scan(6)
    qtbot.waitUntil(lambda: "⚠" in panel.status.text(), timeout=10_000)
    assert "missing file" in panel.status.text()
    assert panel.layer.name == "s0"
    panel.step(-1)
    qtbot.waitUntil(lambda: panel.layer.name == "s5", timeout=10_000)


def test_a_dropped_folder_is_opened(qtbot, open_panel, study):
    panel = open_panel()
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(study.parent))])
    panel.dropEvent(
        QDropEvent(
            QPointF(1, 1),
            Qt.DropAction.CopyAction,
            mime,
            Qt.MouseButton.LeftButton,
            Qt.KeyboardModifier.NoModifier,
        )
    )
    qtbot.waitUntil(lambda: panel.layer is not None, timeout=10_000)
    assert column(panel, NAME) == [f"s{n}" for n in range(6)]


@pytest.mark.parametrize("how", ["no panel", "no network", "channels", "labels"])
def test_what_is_lacking_is_said(qtbot, open_panel, study, model, how):
    panel = open_panel(None if how == "no panel" else model)
    open_study(qtbot, panel, study)
    if how == "no network":
        panel.explain.network.forget()
    elif how == "channels":
        torch.manual_seed(0)
        two = nn.Sequential(nn.Conv3d(2, 2, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten())
        panel.explain.use_model(Model(two, input_spec=cv.InputSpec(channels=2), device="cpu"))
    elif how == "labels":
        panel.viewer.add_labels(np.ones(panel.layer.data.shape, int))
        form = panel.explain.method_form
        form.choose_method("sensitivity")
        form.hierarchy.choose(panel.viewer.layers[-1])
    idle(qtbot, panel)
    panel.run()
    says = {"channels": "2 input channels", "labels": "built from the scan"}
    assert says.get(how, "choose a checkpoint") in panel.status.text()
    assert not panel.runs.running


def test_closing_explain_cnn_leaves_the_network_the_method_and_the_run(
    qtbot, open_panel, study, model
):
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    panel.explain.method_form.choose_method("hirescam")
    panel.run()
    assert panel.runs.running
    panel.explain.closed()
    assert panel.session.model is model
    qtbot.waitUntil(lambda: not panel.runs.running, timeout=60_000)
    idle(qtbot, panel)
    assert all(row.mapped for row in panel.scans.table.rows[:6])
    assert map_of(panel.screen.overlay).provenance["method"] == "HiResCAM"


def test_no_other_panel_is_needed(qtbot, open_panel, study, model):
    panel = open_panel()
    open_study(qtbot, panel, study)
    panel.run()
    assert "No network is loaded" in panel.status.text()
    assert panel.network.isVisibleTo(panel)
    panel.session.use(model)
    idle(qtbot, panel)
    assert not panel.network.isVisibleTo(panel)
    run_on_all(qtbot, panel)
    assert [row.mapped for row in panel.scans.table.rows] == [True] * 6 + [False]
    show(qtbot, panel, 1)
    volume = layer_to_volume(*snapshot(panel.layer))
    expected = cv.grad_cam(model, volume, 0).data
    np.testing.assert_array_equal(panel.screen.overlay.data, expected)


@pytest.mark.window
@pytest.mark.skipif(
    os.environ.get("QT_QPA_PLATFORM") == "offscreen", reason="needs a display with OpenGL"
)
def test_in_a_window_with_keys_and_maps(make_napari_viewer, qtbot, study, model, store):
    viewer = make_napari_viewer(show=True)
    _, explain = viewer.window.add_plugin_dock_widget("napari-cnnvis", "Explain CNN")
    dock, panel = viewer.window.add_plugin_dock_widget("napari-cnnvis", "Scans")
    panel.explain = explain
    panel.loader.store = store
    explain.use_model(model)
    open_study(qtbot, panel, study)
    run_on_all(qtbot, panel)
    canvas = viewer.window._qt_viewer.canvas.native
    before = viewer.screenshot(canvas_only=True, flash=False)
    canvas.setFocus()
    qtbot.keyClick(canvas, Qt.Key.Key_PageDown)
    qtbot.waitUntil(lambda: panel.layer.name == "s1", timeout=10_000)
    idle(qtbot, panel)
    overlay = panel.screen.overlay
    assert [layer.name for layer in viewer.layers] == ["s1", overlay.name]
    np.testing.assert_array_equal(overlay.data, expected_map(panel))
    assert not np.array_equal(viewer.screenshot(canvas_only=True, flash=False), before)
    viewer.window.remove_dock_widget(dock)
    pressed = "PageDown"
    qtbot.waitUntil(lambda: pressed not in {str(key) for key in viewer.keymap}, timeout=5000)


def test_labels_that_were_not_found_are_said_as_long_as_the_scans_are_listed(
    open_panel, tmp_path, qtbot
):
    panel = open_panel()
    place = tmp_path / "tree" / "sub-01" / "anat"
    place.mkdir(parents=True)
    write_scan(place / "sub-01_T1w.nii.gz", 0)
    (tmp_path / "tree" / "participants.tsv").write_text("participant_id\tage\n01\t70\n")
    panel.open(tmp_path / "tree")
    idle(qtbot, panel)
    assert "'participant_id', 'age'" in panel.found.text() and not panel.found.isHidden()
    (tmp_path / "tree" / "participants.tsv").write_text("participant_id\tgroup\n01\tAD\n")
    panel.open(tmp_path / "tree")
    idle(qtbot, panel)
    assert panel.found.isHidden()
