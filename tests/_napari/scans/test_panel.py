"""The panel "Scans": browsing in place, results of all scans, what is wrong."""

import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from napari.components import ViewerModel
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis._napari.explain.panel import ExplainPanel
from napari_cnnvis._napari.layers.scans import layer_to_volume, snapshot
from napari_cnnvis._napari.scans.panel import ScansPanel
from napari_cnnvis._napari.scans.scan_table import MARK, NAME, PREDICTION
from napari_cnnvis.cohort import run
from napari_cnnvis.cohort.store import ResultStore
from napari_cnnvis.models.model import Model

SHAPE = (10, 11, 12)


def write_scan(path, seed=0, shape=SHAPE, spacing=2.0, factor=1.0, level=0.0, air=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(seed).random(shape).astype(np.float32) * factor + level
    affine = np.diag([-spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [10.0 + seed, -8, 3]
    data[:air] = 0
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


@pytest.fixture
def study(tmp_path):
    """Six scans, of which the labels of the last two are wrong for `bright_is_ad`, one missing."""
    rows = ["Path,Label"]
    for number in range(6):
        bright = number % 2
        write_scan(tmp_path / f"s{number}.nii.gz", number, level=float(bright))
        says = ("control", "AD")[bright if number < 4 else 1 - bright]
        rows.append(f"s{number}.nii.gz,{says}")
    rows.append("s9.nii.gz,AD")
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    return tmp_path / "metadata.csv"


@pytest.fixture
def model():
    """Says AD of scans whose mean is above 1."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv3d(1, 2, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()
    )
    module.append(nn.Linear(2, 2))
    with torch.no_grad():
        conv, head = module[0], module[-1]
        conv.weight.zero_()
        conv.weight[:, 0, 1, 1, 1] = 1
        conv.bias.zero_()
        head.weight.copy_(torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
        head.bias.copy_(torch.tensor([2.0, -2.0]))
    spec = cv.InputSpec(intensity="none")
    return Model(module, ["control", "AD"], spec, "cpu", "Bright")


@pytest.fixture
def store(tmp_path):
    return ResultStore(tmp_path / "results")


@pytest.fixture
def open_panel(qtbot, store):
    """Makes the panel, with or without Explain CNN beside it; both are idle when the test ends."""
    made = []

    def make(model=None, viewer=None):
        viewer = viewer or ViewerModel()
        explain = None
        if model is not None:
            explain = ExplainPanel(viewer)
            explain.use_model(model)
        panel = ScansPanel(viewer, store)
        panel.viewer, panel.explain = viewer, explain
        made.append(panel)
        return panel

    yield make
    for panel in made:
        panel.cancel()
        idle(qtbot, panel)
        panel.closed()
        for widget in filter(None, (panel, panel.explain)):
            widget.deleteLater()
    qtbot.wait(1)


def idle(qtbot, panel):
    parts = [panel.jobs, panel.loader, panel.runs, panel.session.jobs]

    def is_idle():
        return not any(part.busy for part in parts) and not panel.session.asked.settling

    qtbot.waitUntil(is_idle, timeout=30_000)
    qtbot.wait(1)
    qtbot.waitUntil(is_idle, timeout=30_000)


def open_study(qtbot, panel, path):
    panel.open(path)
    qtbot.waitUntil(lambda: panel.layer is not None, timeout=30_000)
    idle(qtbot, panel)


def show(qtbot, panel, number):
    panel.show_scan(number)
    entry = panel._entries[number]
    qtbot.waitUntil(lambda: panel.screen.scan.wanted.entry is entry, timeout=30_000)
    idle(qtbot, panel)


def run_on_all(qtbot, panel, **how):
    panel.run(**how)
    assert panel.runs.running, panel.status.text()
    qtbot.waitUntil(lambda: not panel.runs.running, timeout=60_000)
    idle(qtbot, panel)


def column(panel, number):
    rows = panel.scans.filter
    return [rows.index(row, number).data() for row in range(rows.rowCount())]


def expected_map(panel, **how):
    """The map that the panel Explain CNN would make of the shown layer."""
    volume = layer_to_volume(*snapshot(panel.layer))
    how = {"layer": panel.explain.method_form.layer.current} | how
    target = panel.explain.method_form.target.currentIndex()
    return cv.grad_cam(panel.explain.network.model, volume, target, **how).data


# --- listing -------------------------------------------------------------------------------


def test_an_empty_panel_says_what_to_do(open_panel):
    panel = open_panel()
    assert "Open a folder" in panel.status.text()
    assert not panel.run_button.isEnabled()
    assert panel.minimumWidth() >= 380


def test_the_panel_needs_no_torch():
    code = "import sys, napari_cnnvis._napari.scans.panel; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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


# --- browsing ------------------------------------------------------------------------------


def test_switching_keeps_the_view_and_the_layers_settings(qtbot, open_panel, study):
    panel = open_panel()
    viewer = panel.viewer
    camera = viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera
    open_study(qtbot, panel, study)
    layer = panel.layer
    layer.colormap, layer.gamma, layer.opacity, layer.rendering = "viridis", 0.7, 0.6, "mip"
    layer.contrast_limits, layer.metadata["own"] = (0.2, 0.9), 1
    viewer.dims.point = (-9.0, 2.0, -15.0)
    camera.center, camera.zoom = (0, 1, 2), 3.0
    for dimensions in (2, 3):
        viewer.dims.ndisplay = dimensions
        camera.angles = (5, 10, 15)
        view = camera.center, camera.zoom, camera.angles
        point, order = viewer.dims.point, viewer.dims.order
        show(qtbot, panel, 2 if dimensions == 2 else 4)
        assert viewer.layers == [layer]
        assert (camera.center, camera.zoom, camera.angles) == view
        np.testing.assert_allclose(viewer.dims.point, point, atol=1e-9)
        assert (viewer.dims.order, viewer.dims.ndisplay) == (order, dimensions)
        assert layer.colormap.name == "viridis"
        assert (layer.gamma, layer.opacity, layer.rendering) == (0.7, 0.6, "mip")
        assert tuple(layer.contrast_limits) == (0.2, 0.9)
        assert layer.metadata["own"] == 1


def test_the_layer_is_exactly_the_one_that_the_reader_gives(qtbot, open_panel, tmp_path):
    from napari_cnnvis._napari.contributions import read_scans

    write_scan(tmp_path / "s" / "a.nii")
    other = write_scan(tmp_path / "s" / "b.nii", 5, (8, 14, 9), 1.5)
    panel = open_panel()
    open_study(qtbot, panel, tmp_path / "s")
    panel.viewer.dims.point = (-9.0, 2.0, -15.0)
    point = panel.viewer.dims.point
    show(qtbot, panel, 1)
    ((data, arguments, _),) = read_scans(str(other))
    layer = panel.layer
    np.testing.assert_array_equal(layer.data, data)
    np.testing.assert_allclose(layer.scale, arguments["scale"])
    np.testing.assert_allclose(layer.translate, arguments["translate"])
    assert layer.name == "b"
    known, expected = (m["napari_cnnvis"] for m in (layer.metadata, arguments["metadata"]))
    np.testing.assert_array_equal(known["affine"], expected["affine"])
    for key in ("stored_orientation", "source", "orientation_known"):
        assert known[key] == expected[key]
    span = panel.viewer.dims.range
    inside = [np.clip(p, min(r[:2]), max(r[:2])) for p, r in zip(point, span, strict=True)]
    np.testing.assert_allclose(panel.viewer.dims.point, inside, atol=1e-9)


def test_contrast_is_set_anew_only_for_quite_other_intensities(qtbot, open_panel, tmp_path):
    for number, factor in enumerate((1, 2, 1000)):
        write_scan(tmp_path / "s" / f"{number}.nii", number, factor=factor)
    panel = open_panel()
    open_study(qtbot, panel, tmp_path / "s")
    panel.layer.contrast_limits = (0.1, 0.8)
    show(qtbot, panel, 1)
    assert tuple(panel.layer.contrast_limits) == (0.1, 0.8)
    assert panel.layer.contrast_limits_range[1] == pytest.approx(panel.layer.data.max())
    show(qtbot, panel, 2)
    limits = panel.layer.data.min(), panel.layer.data.max()
    np.testing.assert_allclose(panel.layer.contrast_limits, limits)


def test_buttons_and_keys_go_to_the_next_and_the_last_scan(qtbot, open_panel, study):
    panel = open_panel()
    open_study(qtbot, panel, study)

    def shows(name):
        qtbot.waitUntil(lambda: panel.layer.name == name, timeout=10_000)

    panel.scans.next.click()
    shows("s1")
    keymap = {str(key): step for key, step in panel.viewer.keymap.items()}
    keymap["PageDown"](panel.viewer)
    shows("s2")
    keymap["PageUp"](panel.viewer)
    shows("s1")
    qtbot.keyClick(panel.scans.view, Qt.Key.Key_Down)
    shows("s2")
    panel.scans.previous.click()
    shows("s1")
    assert all(key in panel.scans.next.toolTip() for key in ("PageDown",))
    panel.closed()
    assert not panel.viewer.keymap


def test_a_deleted_layer_is_made_anew(qtbot, open_panel, study):
    panel = open_panel()
    open_study(qtbot, panel, study)
    panel.viewer.layers.clear()
    show(qtbot, panel, 1)
    assert [layer.name for layer in panel.viewer.layers] == ["s1"]
    panel.viewer.layers.clear()
    panel.scans.view.clicked.emit(panel.scans.filter.index(1, 0))  # the same row again
    qtbot.waitUntil(lambda: len(panel.viewer.layers) == 1, timeout=10_000)


def test_only_the_last_wish_is_shown(qtbot, open_panel, study):
    panel = open_panel()
    open_study(qtbot, panel, study)
    seen = []
    panel.screen.swapped.connect(lambda scan: seen.append(scan.wanted.entry.name))
    for _ in range(5):
        panel.step(1)
    qtbot.waitUntil(lambda: panel.layer.name == "s5", timeout=10_000)
    assert len(seen) < 5


# --- predictions ---------------------------------------------------------------------------


def test_predictions_marks_and_the_filter(qtbot, open_panel, study, model):
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    run_on_all(qtbot, panel, with_maps=False)
    assert column(panel, MARK) == ["✓", "✓", "✓", "✓", "✗", "✗", ""]
    assert column(panel, PREDICTION)[:2][0].startswith("control ")
    assert "4 of 6 right (67%)" in panel.counts.text()
    assert "6 scans predicted, 1 failed" in panel.status.text()
    show(qtbot, panel, 1)
    panel.scans.only_wrong.setChecked(True)
    assert column(panel, NAME) == ["s4", "s5"]
    assert panel.layer.name == "s1"  # a filter shows no other scan
    panel.scans.next.click()
    qtbot.waitUntil(lambda: panel.layer.name in ("s4", "s5"), timeout=10_000)
    panel.scans.only_wrong.setChecked(False)
    panel.scans.search.setText("s1")
    assert column(panel, NAME) == ["s1"]
    panel.scans.search.setText("ad > control")
    panel.scans.search.clear()
    panel.scans.view.sortByColumn(MARK, Qt.SortOrder.AscendingOrder)
    assert column(panel, MARK) == ["✗", "✗", "✓", "✓", "✓", "✓", ""]


def test_the_panel_explain_cnn_knows_what_is_shown(qtbot, open_panel, study, model):
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    run_on_all(qtbot, panel, with_maps=False)
    for number in (1, 0, 3):
        show(qtbot, panel, number)
        said = dict(model.described(model.predict(layer_to_volume(*snapshot(panel.layer)))))
        text = panel.explain.network.recognised.text()
        assert f"AD <b>{said['AD']}</b>" in text
    assert not panel.explain.jobs.busy


def test_a_shown_scan_is_predicted_without_being_asked(qtbot, open_panel, study, model):
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    show(qtbot, panel, 1)
    rows = panel.scans.table.rows
    qtbot.waitUntil(lambda: rows[0].right and rows[1].right, timeout=10_000)
    assert rows[2].prediction is None


def test_another_network_starts_anew(qtbot, open_panel, study, model):
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    run_on_all(qtbot, panel)
    panel.explain.use_model(model.with_classes(["CN", "MCI"]))
    idle(qtbot, panel)
    rows = panel.scans.table.rows
    assert all(row.prediction is None and not row.mapped for row in rows[1:])
    panel.explain.use_model(model)
    idle(qtbot, panel)
    assert all(row.mapped for row in rows[:6])


# --- maps ----------------------------------------------------------------------------------


def test_maps_of_all_scans_come_from_the_store(qtbot, open_panel, study, model, monkeypatch):
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    run_on_all(qtbot, panel)
    assert [row.mapped for row in panel.scans.table.rows] == [True] * 6 + [False]
    assert panel.screen.overlay is not None  # of the scan that was shown while they were made

    def no_more(*args):
        raise AssertionError("the network was run")

    expected = []
    for number in (3, 1, 4):
        show(qtbot, panel, number)
        expected.append(expected_map(panel))
    monkeypatch.setattr(type(model), "logits", no_more)
    monkeypatch.setattr(type(model), "predict", no_more)
    overlay = panel.screen.overlay
    overlay.opacity, overlay.gamma = 0.4, 0.8
    for number, data in zip((3, 1, 4), expected, strict=True):
        show(qtbot, panel, number)
        np.testing.assert_array_equal(overlay.data, data)
        corners = [(0, 0, 0), (3, 4, 5)]
        for corner in corners:
            np.testing.assert_allclose(
                overlay.data_to_world(corner), panel.layer.data_to_world(corner)
            )
        assert overlay.metadata["attribution"]["scan"]["name"] == panel.layer.name
        assert panel.viewer.layers == [panel.layer, overlay]
        assert (overlay.opacity, overlay.gamma, overlay.visible) == (0.4, 0.8, True)


def test_a_new_panel_has_all_results_at_once(qtbot, open_panel, study, model):
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    run_on_all(qtbot, panel)
    again = open_panel(model)
    again.explain.method_form.choose_class(panel.explain.method_form.target.currentIndex())
    open_study(qtbot, again, study)
    assert [row.mapped for row in again.scans.table.rows] == [True] * 6 + [False]
    assert column(again, PREDICTION) == column(panel, PREDICTION)


def test_without_a_map_the_overlay_is_hidden_and_comes_back(qtbot, open_panel, study, model, store):
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    run_on_all(qtbot, panel)
    show(qtbot, panel, 1)
    overlay = panel.screen.overlay
    shown = overlay.data.copy()
    for path in store.folder.rglob("*.npz"):
        path.unlink()
    panel.loader._maps.clear()
    show(qtbot, panel, 4)
    assert not overlay.visible
    run_on_all(qtbot, panel)
    show(qtbot, panel, 1)
    assert overlay.visible
    np.testing.assert_array_equal(overlay.data, shown)
    overlay.visible = False  # by the user: it stays so
    show(qtbot, panel, 2)
    assert not overlay.visible


def test_a_deleted_overlay_is_made_anew(qtbot, open_panel, study, model):
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    run_on_all(qtbot, panel)
    panel.viewer.layers.remove(panel.screen.overlay)
    show(qtbot, panel, 1)
    np.testing.assert_array_equal(panel.screen.overlay.data, expected_map(panel))
    panel.viewer.layers.clear()
    show(qtbot, panel, 2)
    np.testing.assert_array_equal(panel.screen.overlay.data, expected_map(panel))
    assert len(panel.viewer.layers) == 2


def test_scans_of_other_grids_take_their_overlay_along(qtbot, open_panel, tmp_path, model):
    write_scan(tmp_path / "s" / "a.nii", 0)
    write_scan(tmp_path / "s" / "b.nii", 1, (7, 13, 9), 3.0)
    panel = open_panel(model)
    open_study(qtbot, panel, tmp_path / "s")
    run_on_all(qtbot, panel)
    for number in (1, 0, 1):
        show(qtbot, panel, number)
        overlay = panel.screen.overlay
        assert overlay.data.shape == panel.layer.data.shape
        np.testing.assert_allclose(overlay.extent.world, panel.layer.extent.world)
        np.testing.assert_array_equal(overlay.data, expected_map(panel))


def test_the_overlays_contrast_stays_comparable(qtbot, open_panel, study, model):
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    run_on_all(qtbot, panel)
    overlay = panel.screen.overlay
    low, high = overlay.contrast_limits_range
    overlay.contrast_limits = (low, high / 2)
    for number in (2, 4, 0):
        show(qtbot, panel, number)
        assert tuple(overlay.contrast_limits) == (low, high / 2)


def test_another_method_has_other_maps_and_the_first_come_back(qtbot, open_panel, study, model):
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    run_on_all(qtbot, panel)
    form = panel.explain.method_form
    form.choose_method("hirescam")
    idle(qtbot, panel)
    assert not any(row.mapped for row in panel.scans.table.rows)
    show(qtbot, panel, 1)
    assert not panel.screen.overlay.visible
    form.choose_method("grad-cam")
    idle(qtbot, panel)
    assert all(row.mapped for row in panel.scans.table.rows[:6])
    assert panel.screen.overlay.visible
    np.testing.assert_array_equal(panel.screen.overlay.data, expected_map(panel))


def test_what_lies_outside_the_head_stays_hidden(qtbot, open_panel, tmp_path, model):
    for number in range(2):
        path = tmp_path / "s" / f"{number}.nii"
        write_scan(path, number, (20, 20, 20), level=1.0, air=6 + number)
    panel = open_panel(model)
    open_study(qtbot, panel, tmp_path / "s")
    panel.explain.method_form.relu.setChecked(False)
    panel.explain.method_form.choose_class(1)
    run_on_all(qtbot, panel)
    panel.explain.method_form.head_only.setChecked(True)
    for number in (1, 0, 1):
        show(qtbot, panel, number)
        head = panel.layer.data > 0
        expected = np.where(head, expected_map(panel, relu=False), 0)
        np.testing.assert_array_equal(panel.screen.overlay.data, expected)


def test_a_run_of_explain_cnn_is_kept_too(qtbot, open_panel, study, model):
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    panel.explain.run()
    idle(qtbot, panel)
    rows = panel.scans.table.rows
    qtbot.waitUntil(lambda: rows[0].mapped, timeout=10_000)
    first = panel.screen.overlay.data.copy()
    show(qtbot, panel, 1)
    assert not panel.screen.overlay.visible
    show(qtbot, panel, 0)
    assert panel.screen.overlay.visible
    np.testing.assert_array_equal(panel.screen.overlay.data, first)


def test_parts_of_a_run_are_not_shown_on_another_scan(qtbot, open_panel, tmp_path, model):
    for number in range(2):
        write_scan(tmp_path / "s" / f"{number}.nii", number, (24, 24, 24))
    panel = open_panel(model)
    open_study(qtbot, panel, tmp_path / "s")
    run_on_all(qtbot, panel)
    show(qtbot, panel, 0)
    form = panel.explain.method_form
    form.choose_method("box")
    form.size.setValue(3)
    form.stride.setValue(1)
    idle(qtbot, panel)
    panel.explain.run()
    qtbot.waitUntil(lambda: "Box" in (panel.screen.overlay or panel.layer).name, timeout=20_000)
    panel.show_scan(1)
    qtbot.waitUntil(lambda: panel.layer.name == "1", timeout=20_000)
    for _ in range(10):
        qtbot.wait(50)
        overlay = panel.screen.overlay
        assert overlay is None or not overlay.visible
    panel.explain.jobs.cancel()
    idle(qtbot, panel)
    assert "replaced" in panel.explain.status.text()
    assert panel.screen.overlay is None or not panel.screen.overlay.visible


def test_a_run_that_ends_on_another_scan_shows_nothing(qtbot, open_panel, study, model):
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    panel.explain.run()
    panel.layer.data = panel.layer.data.copy()  # as another scan in its place
    idle(qtbot, panel)
    assert len(panel.viewer.layers) == 1
    assert "replaced" in panel.explain.status.text()


# --- runs that end otherwise ------------------------------------------------------------------


def test_a_cancelled_run_keeps_what_it_has(qtbot, open_panel, tmp_path, model):
    for number in range(12):
        write_scan(tmp_path / "s" / f"{number}.nii", number)
    panel = open_panel(model)
    open_study(qtbot, panel, tmp_path / "s")
    panel.runs.outcome.connect(
        lambda number, outcome, *_: panel.cancel_button.click() if outcome.mapped else None
    )
    run_on_all(qtbot, panel)
    mapped = sum(row.mapped for row in panel.scans.table.rows)
    assert 0 < mapped < 12
    assert panel.status.text().startswith("Cancelled: 12 scans predicted")
    assert panel.run_button.isEnabled()
    assert not panel.bar.isVisibleTo(panel)


def test_bad_scans_say_why_and_the_others_are_done(qtbot, open_panel, study, model):
    bad = study.parent / "s2.nii.gz"
    bad.write_bytes(bad.read_bytes()[:-200])
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    run_on_all(qtbot, panel)
    rows = panel.scans.table.rows
    assert [row.mapped for row in rows] == [True, True, False, True, True, True, False]
    assert "s2.nii.gz is damaged or incomplete" in rows[2].problem
    assert rows[2].status == "⚠ failed"
    panel.runs.look_up()
    idle(qtbot, panel)
    assert "s2.nii.gz is damaged or incomplete" in rows[2].problem
    assert rows[2].status == "⚠ failed"


@pytest.mark.parametrize("with_maps", [True, False])
def test_an_unexpected_error_in_one_scan_is_said_and_the_others_are_done(
    qtbot, open_panel, study, model, monkeypatch, with_maps
):
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    name = "explain" if with_maps else "read_volume"
    real = getattr(run, name)

    def stumbles(given, *args, **kwargs):
        scan = args[0] if with_maps else given
        if "s2" in str(getattr(scan, "name", scan)):
            raise KeyError("axes")
        return real(given, *args, **kwargs)

    monkeypatch.setattr(run, name, stumbles)
    run_on_all(qtbot, panel, with_maps=with_maps)
    rows = panel.scans.table.rows
    others = [row for number, row in enumerate(rows) if number not in (2, 6)]
    assert all(row.mapped == with_maps and row.prediction is not None for row in others)
    assert "Something unexpected went wrong" in rows[2].problem
    assert "Traceback" not in rows[2].problem
    assert rows[2].status == "⚠ failed"
    assert "2 failed" in panel.status.text()


def test_a_full_disk_is_said(qtbot, open_panel, study, model, store):
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    store.folder = study  # a file
    run_on_all(qtbot, panel)
    assert "Results cannot be kept in" in panel.status.text()
    assert panel.run_button.isEnabled()


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
    assert panel.screen.overlay.metadata["attribution"]["method"] == "HiResCAM"


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


# --- in a window -----------------------------------------------------------------------------


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
