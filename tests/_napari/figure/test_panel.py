"""The panel "Figure": camera presets, cut-away, pictures, turntable."""

import base64
import io
import json
import sys
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from npe2 import PluginManager
from PIL import Image as Picture

from napari_cnnvis._napari.figure import capture, turntable
from napari_cnnvis._napari.figure.camera import CameraState, ScanAxes, camera_of, look_from
from napari_cnnvis._napari.figure.capture import _without_background
from napari_cnnvis._napari.figure.panel import FigurePanel
from napari_cnnvis._napari.layers.maps import overlay_arguments
from napari_cnnvis._napari.layers.scans import volume_to_layer
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.figure.geometry import VIEWS
from napari_cnnvis.figure.record import read_figure
from napari_cnnvis.figure.spec import SIDES
from napari_cnnvis.scan.files import write_volume
from napari_cnnvis.scan.volume import Volume

SHAPE = (16, 20, 12)
#: R, A and S of the patient in the viewer's world, whose axes are (-S, -A, -R)
WORLD = {"R": (0, 0, -1), "A": (0, -1, 0), "S": (-1, 0, 0)}
WORLD |= {o: tuple(-v for v in WORLD[d]) for d, o in zip("RAS", "LPI", strict=True)}


def make_scan(orientation="RAS"):
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = [-16, -20, -18]
    data = np.zeros(SHAPE)
    data[2:-2, 2:-2, 2:-2] = 1.0
    return Volume(data, affine, "scan").reoriented(orientation)


def make_map(scan):
    """1 in a block on the left."""
    data = np.zeros(SHAPE, np.float32)
    data[3:6, 12:16, 6:9] = 1.0
    volume = Volume(data, make_scan().affine, "map").reoriented(scan.orientation)
    record = {"method": "CAM", "class_name": "atrophy", "layer": "relu4"}
    return Attribution(volume.data, volume.affine, record, scan)


def add(viewer, scan):
    """The scan's layer and its overlay, as the plugin makes them."""
    layer = viewer.add_image(*volume_to_layer(scan)[:1], **volume_to_layer(scan)[1])
    map_ = make_map(scan)
    shown = volume_to_layer(Volume(map_.data, map_.affine))[0]
    overlay = viewer.add_image(shown, **overlay_arguments(map_, layer, shown))
    return layer, overlay


@pytest.fixture
def panel(qtbot):
    viewer = ViewerModel()
    panel = FigurePanel(viewer)
    qtbot.addWidget(panel)
    panel.viewer = viewer
    panel.form.size.show_size(60, 60)
    yield panel
    qtbot.waitUntil(lambda: not panel.jobs.busy, timeout=60_000)


@pytest.fixture
def loaded(panel):
    panel.scan_layer, panel.overlay = add(panel.viewer, make_scan())
    return panel


def idle(qtbot, panel):
    qtbot.waitUntil(lambda: not panel.jobs.busy, timeout=60_000)


def said(panel):
    return panel.form.status.text()


# --- camera ----------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "PSR"])
@pytest.mark.parametrize("name", VIEWS)
def test_presets_look_by_where_the_scan_lies_in_the_patient(orientation, name):
    viewer = ViewerModel()
    layer, _ = add(viewer, make_scan(orientation))
    look_from(viewer, layer, name)
    assert viewer.dims.ndisplay == 3
    camera, view = camera_of(viewer), VIEWS[name]
    np.testing.assert_allclose(camera.view_direction, WORLD[view.forward], atol=1e-6)
    np.testing.assert_allclose(camera.up_direction, WORLD[view.up], atol=1e-6)
    right = np.cross(camera.view_direction, camera.up_direction)
    np.testing.assert_allclose(right, WORLD[view.right], atol=1e-6)


def test_presets_follow_the_order_of_the_displayed_axes():
    viewer = ViewerModel()
    layer, _ = add(viewer, make_scan())
    viewer.dims.ndisplay = 3
    viewer.dims.order = (1, 2, 0)
    look_from(viewer, layer, "left")
    np.testing.assert_allclose(
        camera_of(viewer).view_direction, np.array(WORLD["R"])[[1, 2, 0]], atol=1e-6
    )


def test_a_view_is_saved_and_gone_back_to(loaded):
    assert not loaded.form.go_to_saved.isEnabled()
    loaded.form.presets["left"].click()
    camera_of(loaded.viewer).zoom = 3.5
    loaded.form.save_view.click()
    before = camera_of(loaded.viewer).view_direction
    loaded.form.presets["superior"].click()
    camera_of(loaded.viewer).zoom = 1.0
    loaded.form.go_to_saved.click()
    np.testing.assert_allclose(camera_of(loaded.viewer).view_direction, before, atol=1e-6)
    assert camera_of(loaded.viewer).zoom == 3.5


def test_a_layer_of_unknown_orientation_says_so(panel):
    panel.viewer.add_image(np.ones(SHAPE), scale=(1, 2, 3))
    assert "does not say how the scan is oriented" in panel.form.hint.text()
    panel.look_from("anterior")


# --- cut-away --------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "PSR"])
def test_axes_of_a_scan_count_in_its_millimetres(orientation):
    scan = make_scan(orientation)
    data, attributes = volume_to_layer(scan)
    layer = Image(data, **attributes)
    axes = ScanAxes.of(layer)
    assert axes.span(0) == (-17.0, 15.0)
    assert axes.span(2) == (-19.5, 16.5)
    for row, (mm, world) in enumerate([(-6.0, 2), (4.0, 1), (3.0, 0)]):
        index = np.zeros(3)
        index[axes.axis[row]] = axes.index(row, mm)
        assert layer.data_to_world(index)[world] == pytest.approx(-mm)


def test_sliders_put_planes_on_every_image(loaded):
    low, high = loaded.form.cut_away.sliders[0].minimum(), loaded.form.cut_away.sliders[0].maximum()
    loaded.form.cut_away.sliders[0].setValue((0, high))
    for layer in (loaded.scan_layer, loaded.overlay):
        (plane,) = layer.experimental_clipping_planes
        # in the world, where right is -x: kept is what lies to the right of 0 mm
        assert plane.position[2] == pytest.approx(0)
        np.testing.assert_allclose(plane.normal, WORLD["R"], atol=1e-9)
    assert "0 to 15" in loaded.form.cut_away.labels[0].text()
    loaded.form.cut_away.sliders[0].setValue((low, 2))
    (plane,) = loaded.overlay.experimental_clipping_planes
    np.testing.assert_allclose(plane.normal, WORLD["L"], atol=1e-9)
    new = loaded.viewer.add_image(np.ones(SHAPE))
    assert len(new.experimental_clipping_planes) == 1
    loaded.form.whole.click()
    assert not loaded.scan_layer.experimental_clipping_planes
    assert not new.experimental_clipping_planes


def test_a_closed_panel_leaves_no_cut_behind(loaded):
    loaded.form.cut_away.sliders[1].setValue((0, 5))
    loaded.closed()
    assert not loaded.scan_layer.experimental_clipping_planes


# --- plates ----------------------------------------------------------------------------


def test_what_is_needed_is_said(panel):
    assert "Open a scan first" in panel.form.hint.text()
    assert not any(b.isEnabled() for n, b in panel.form.buttons.items() if n != "open")
    data, attributes = volume_to_layer(make_scan())
    panel.viewer.add_image(data, **attributes)
    assert panel.form.buttons["view"].isEnabled()
    assert not panel.form.buttons["slices"].isEnabled()
    assert "Explain CNN" in panel.form.buttons["slices"].toolTip()


@pytest.mark.parametrize("layout", ["slices", "lightbox", "views"])
def test_plates_are_saved_in_the_background(qtbot, loaded, tmp_path, layout):
    path = tmp_path / "plate.png"
    getattr(loaded, f"save_{layout}")(path)
    assert loaded.jobs.busy
    idle(qtbot, loaded)
    assert "Saved plate.png and plate.json." in said(loaded)
    record = read_figure(tmp_path / "plate.json")
    assert record.spec.layout == layout
    assert record.provenance["class_name"] == "atrophy"
    with Picture.open(path) as picture:
        assert picture.width == round(60 / 25.4 * 60)


def test_a_plate_shows_the_layers_limits_and_the_forms_values(qtbot, loaded, tmp_path):
    form = loaded.form
    loaded.overlay.contrast_limits = (0.25, 0.75)
    form.title.setText("A title")
    form.side.setCurrentText("neurological")
    form.background.setCurrentText("white")
    form.scale_bar.setChecked(False)
    loaded.save_slices(tmp_path / "plate.svg")
    idle(qtbot, loaded)
    spec = read_figure(tmp_path / "plate.json").spec
    assert spec.limits == (0.25, 0.75)
    assert (spec.title, spec.side, spec.background) == ("A title", "neurological", "white")
    assert not spec.scale_bar
    assert ">A title<" in (tmp_path / "plate.svg").read_text()


@pytest.mark.parametrize("orientation", ["LAS", "PSR"])
@pytest.mark.parametrize("side", SIDES)
def test_letters_of_a_plate_of_layers_stand_where_the_mark_is(
    qtbot, panel, tmp_path, orientation, side
):
    add(panel.viewer, make_scan(orientation))
    panel.form.side.setCurrentText(side)
    panel.form.colour_bar.setChecked(False)
    panel.save_slices(tmp_path / "plate.svg")
    idle(qtbot, panel)
    svg = ElementTree.parse(tmp_path / "plate.svg")
    space = "{http://www.w3.org/2000/svg}"
    letters = sorted(
        (float(text.get("x")), text.text)
        for text in svg.iter(f"{space}text")
        if len(text.text) == 1
    )
    ends = [letters[n : n + 2] for n in (0, 2, 4)]
    pictures = []
    for image in svg.iter(f"{space}image"):
        code = image.get("{http://www.w3.org/1999/xlink}href").partition("base64,")[2]
        with Picture.open(io.BytesIO(base64.b64decode(code))) as picture:
            pictures.append(np.array(picture.convert("RGB")))
    for number, ((_, left), (_, right)) in enumerate(ends):
        x, _ = coloured(pictures[number])
        at_mark = right if x > 0.5 else left
        assert abs(x - 0.5) > 0.1
        assert at_mark == ("A" if number == 0 else "L")
        assert number == 0 or (x > 0.5) == (side == "radiological")


def test_slices_at_the_viewers_position(qtbot, loaded, tmp_path):
    loaded.form.place.setCurrentIndex(1)
    loaded.viewer.dims.set_point((0, 1, 2), (-3, -4, 6))  # S 3, A 4, R -6
    loaded.save_slices(tmp_path / "plate.png")
    idle(qtbot, loaded)
    (position,) = read_figure(tmp_path / "plate.json").spec.positions
    np.testing.assert_allclose(position, (-6, 4, 3), atol=1e-6)


def test_scan_and_map_from_files_can_be_drawn_again(qtbot, panel, tmp_path):
    scan = make_scan()
    write_volume(scan, tmp_path / "scan.nii")
    map_ = make_map(scan)
    map_.provenance["versions"] = {}
    map_.save(tmp_path / "map.nii")
    PluginManager.instance().discover()
    for name in ("scan.nii", "map.nii"):
        panel.viewer.open(str(tmp_path / name), plugin="napari-cnnvis")
    panel.save_views(tmp_path / "plate.png")
    idle(qtbot, panel)
    assert "not in a file" not in said(panel)
    again = read_figure(tmp_path / "plate.json").volumes()
    np.testing.assert_array_equal(again[1].data, map_.data)


def test_what_cannot_be_drawn_is_said(qtbot, loaded, tmp_path):
    loaded.save_slices(tmp_path / "plate.jpg")
    idle(qtbot, loaded)
    assert said(loaded).startswith("⚠ A figure cannot be written as plate.jpg")
    loaded.open_record(tmp_path / "none.json")
    assert "There is no file" in said(loaded)


def test_the_json_of_a_plate_sets_the_form(qtbot, loaded, tmp_path):
    loaded.form.count.setValue(7)
    loaded.form.title.setText("  ")
    loaded.save_lightbox(tmp_path / "plate.png")
    idle(qtbot, loaded)
    loaded.form.count.setValue(3)
    loaded.form.title.setText("x")
    loaded.form.size.show_size(100, 100)
    loaded.open_record(tmp_path / "plate.json")
    spec = loaded.spec("lightbox")
    assert (spec.count, spec.title, spec.width_mm, spec.dpi) == (7, "", 60, 60)


def test_dialogs_lead_to_files(qtbot, loaded, tmp_path, monkeypatch):
    target = str(tmp_path / "plate")
    monkeypatch.setattr(
        "qtpy.QtWidgets.QFileDialog.getSaveFileName",
        lambda *args: (target, "TIFF (*.tif)"),
    )
    loaded.form.buttons["slices"].click()
    idle(qtbot, loaded)
    assert (tmp_path / "plate.tif").exists()


def test_pixels_follow_width_and_dpi_and_the_other_way_round(panel):
    size = panel.form.size
    size.width_mm.setValue(127)
    size.resolution.setValue(200)
    assert size.pixels.value() == 1000
    size.pixels.setValue(777)
    assert panel.spec().pixels == 777
    assert size.resolution.value() == pytest.approx(155.4)


# --- the canvas ------------------------------------------------------------------------


def test_opacity_is_worked_out_of_black_and_white():
    colour, alpha = np.array([200.0, 100.0, 50.0]), np.array([0.0, 0.5, 1.0])
    black = (colour * alpha[:, None])[None]
    white = black + 255 * (1 - alpha)[None, :, None]
    found = _without_background(black, white)[0]
    np.testing.assert_allclose(found[:, 3], [0, 128, 255], atol=1)
    np.testing.assert_allclose(found[1:, :3], [colour, colour], atol=1)


class FakeAnimation:
    """Stands for napari-animation's."""

    made = None

    def __init__(self, viewer):
        self.viewer, self.frames, self.steps = viewer, [], []
        FakeAnimation.made = self

    def capture_keyframe(self, steps):
        self.frames.append(np.array(camera_of(self.viewer).view_direction))
        self.steps.append(steps)

    def animate(self, path, **how):
        with open(path, "w") as file:
            file.write("movie")


@pytest.fixture
def fake_canvas(monkeypatch):
    """Pixels that say where the camera looks to, for viewers without a window."""

    def pixels(viewer, background, width=None):
        shade = np.rint(127 + 127 * np.array(camera_of(viewer).view_direction)).astype(np.uint8)
        return np.tile(np.r_[shade, np.uint8(255)], (4, 5, 1)), 1.0

    monkeypatch.setattr(turntable, "canvas_pixels", pixels)


def test_turntable_goes_once_around_the_long_axis_and_back(qtbot, loaded, tmp_path, fake_canvas):
    loaded.look_from("anterior")
    before = CameraState.of(loaded.viewer)
    loaded.save_turntable(tmp_path / "frames", frames=4)
    assert loaded.turntable.busy
    assert not loaded.form.buttons["turntable"].isEnabled()
    qtbot.waitUntil(lambda: not loaded.turntable.busy, timeout=20_000)
    frames = sorted((tmp_path / "frames").glob("*.png"))
    seen = [np.asarray(Picture.open(frame))[0, 0, :3] / 127.0 - 1 for frame in frames]
    expected = [WORLD["P"], WORLD["L"], WORLD["A"], WORLD["R"]]
    np.testing.assert_allclose(np.abs(np.array(seen)), np.abs(expected), atol=0.01)
    np.testing.assert_allclose(seen[0], -seen[2], atol=0.02)
    assert CameraState.of(loaded.viewer) == before
    assert said(loaded) == "Saved frames."
    loaded.save_turntable(tmp_path / "frames", frames=4)
    assert "already contains files" in said(loaded)


def test_turntable_as_gif_and_stopped(qtbot, loaded, tmp_path, fake_canvas):
    loaded.look_from("left")
    loaded.save_turntable(tmp_path / "turn.gif", frames=5)
    qtbot.waitUntil(lambda: not loaded.turntable.busy, timeout=20_000)
    with Picture.open(tmp_path / "turn.gif") as movie:
        assert movie.n_frames == 5
    loaded.save_turntable(tmp_path / "second.gif", frames=500)
    loaded.form.cancel.click()
    assert not loaded.turntable.busy
    assert said(loaded) == "Stopped."
    assert not (tmp_path / "second.gif").exists()


def test_movies_are_made_by_napari_animation(loaded, tmp_path, monkeypatch):
    module = ModuleType("napari_animation")
    module.Animation = FakeAnimation
    monkeypatch.setitem(sys.modules, "napari_animation", module)
    loaded.look_from("anterior")
    loaded.save_turntable(tmp_path / "turn.mp4", frames=72)
    assert (tmp_path / "turn.mp4").exists()
    frames = FakeAnimation.made.frames
    assert sum(FakeAnimation.made.steps[1:]) == 72
    np.testing.assert_allclose(frames[0], frames[-1], atol=1e-6)
    np.testing.assert_allclose(frames[0], -frames[4], atol=1e-6)
    np.testing.assert_allclose(np.array(frames) @ WORLD["S"], 0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "word"), [("a.mp4", "pip install napari-animation"), ("a.txt", "use .mp4")]
)
def test_movies_that_cannot_be_made_are_refused(loaded, tmp_path, monkeypatch, name, word):
    monkeypatch.setitem(sys.modules, "napari_animation", None)
    loaded.look_from("anterior")
    loaded.save_turntable(tmp_path / name)
    assert word in said(loaded)
    assert not loaded.turntable.busy


# --- a real window ---------------------------------------------------------------------


@pytest.fixture
def window(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(700, 500)
    layer, overlay = add(viewer, make_scan())
    _, panel = viewer.window.add_plugin_dock_widget("napari-cnnvis", "Figure")
    panel.form.size.show_size(60, 100)
    return viewer, panel, layer, overlay


def coloured(pixels):
    """Share of the width and the height at which coloured pixels lie, or None."""
    rgb = pixels[..., :3].astype(int)
    rows, columns = np.nonzero(np.ptp(rgb, axis=2) > 60)
    shape = pixels.shape
    return (columns.mean() / shape[1], rows.mean() / shape[0]) if len(rows) else None


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
