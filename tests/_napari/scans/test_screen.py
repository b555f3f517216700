"""The overlay that follows the scan that is shown."""

import numpy as np

from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis._napari.scans.scan_table import PREDICTION

from .study_steps import column, expected_map, idle, open_study, run_on_all, show, write_scan


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
        assert map_of(overlay).scan["name"] == panel.layer.name
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
    panel.explain.method_form.field("relu").setChecked(False)
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
    form.field("size").setValue(3)
    form.field("stride").setValue(1)
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
