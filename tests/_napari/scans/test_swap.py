"""Browsing in place: one layer that shows scan after scan."""

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_cnnvis._napari.layers.scans import scan_of

from .study_steps import open_study, show, write_scan


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
    known, expected = scan_of(layer), scan_of(arguments)
    np.testing.assert_array_equal(known.affine, expected.affine)
    for name in ("stored_orientation", "source", "orientation_known"):
        assert getattr(known, name) == getattr(expected, name)
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
