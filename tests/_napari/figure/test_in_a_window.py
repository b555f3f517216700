"""The panel "Figure" in a real window."""

import json

import numpy as np
import pytest
from PIL import Image as Picture

from napari_cnnvis._napari.figure import capture
from napari_cnnvis._napari.figure.camera import CameraState

from .marked_scans import SHAPE, add, coloured, make_scan, said


@pytest.fixture
def window(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(700, 500)
    layer, overlay = add(viewer, make_scan())
    _, panel = viewer.window.add_plugin_dock_widget("napari-cnnvis", "Figure")
    panel.form.size.show_size(60, 100)
    return viewer, panel, layer, overlay


@pytest.mark.window
def test_rendered_views_and_cuts_show_the_left_where_it_is(window):
    viewer, panel, _, overlay = window
    overlay.colorbar.visible = True
    expected = {
        "left": -1,
        "right": 1,
        "anterior": 1,
        "posterior": -1,
        "superior": -1,
        "inferior": 1,
    }
    for name, side in expected.items():
        panel.look_from(name)
        pixels, _ = capture.canvas_pixels(viewer, "black")
        x, _ = coloured(pixels)
        assert (x - 0.5) * side > 0.02, name
    assert overlay.colorbar.visible
    slider = panel.form.cut_away.sliders[0]
    slider.setValue((0, slider.maximum()))  # the left, and the mark with it, is cut away
    assert coloured(capture.canvas_pixels(viewer, "black")[0]) is None
    slider.setValue((slider.minimum(), 0))
    assert coloured(capture.canvas_pixels(viewer, "black")[0]) is not None


@pytest.mark.window
def test_the_3d_view_is_saved_and_restored(window, tmp_path):
    viewer, panel, layer, overlay = window
    panel.look_from("left")
    panel.form.background.setCurrentText("transparent")
    before = CameraState.of(viewer)
    panel.form.cut_away.sliders[2].setValue((-5, 10))
    panel.save_3d(tmp_path / "view.png")
    assert said(panel) == "Saved view.png and view.json."
    assert CameraState.of(viewer) == before
    assert layer.colormap.name == "gray"
    with Picture.open(tmp_path / "view.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape[1] == panel.spec().pixels
    assert pixels[0, 0, 3] == 0
    assert pixels[..., 3].max() == 255
    values = json.loads((tmp_path / "view.json").read_text())
    assert values["view"]["cut"][2] == [-5, 10]
    panel.look_from("superior")
    panel.form.cut_away.reset()
    overlay.contrast_limits = (0.3, 0.4)
    panel.open_record(tmp_path / "view.json")
    assert CameraState.of(viewer) == before
    assert panel.form.cut_away.ranges[2] == (-5, 10)
    assert tuple(overlay.contrast_limits) == (0, 1)


@pytest.mark.window
def test_the_scale_bars_unit_is_the_worlds(window):
    viewer, panel, _, overlay = window
    overlay.visible = False
    panel.look_from("left")
    pixels, zoom = capture.canvas_pixels(viewer, "black", 400)
    columns = np.flatnonzero((pixels[..., 0] > 127).any(axis=0))
    assert np.ptp(columns) + 1 == pytest.approx((SHAPE[1] - 4) * 2.0 * zoom, rel=0.05)


@pytest.mark.window
def test_the_panel_fits_a_small_screen_and_leaves_the_canvas_as_it_was(window):
    from qtpy.QtWidgets import QScrollArea

    viewer, panel, _, _ = window
    viewer.window.resize(1280, 720)
    assert panel.minimumWidth() <= 395
    content = panel.findChild(QScrollArea).widget()
    assert content.minimumSizeHint().width() <= 360
    panel.form.background.setCurrentText("white")
    viewer.window.remove_dock_widget("all")
    assert getattr(viewer.canvas, "background_color_override", None) is None
