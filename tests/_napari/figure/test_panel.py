"""The panel "Figure": plates of slices."""

import base64
import io
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from npe2 import PluginManager
from PIL import Image as Picture

from napari_cnnvis._napari.layers.scans import volume_to_layer
from napari_cnnvis.figure.record import read_figure
from napari_cnnvis.figure.spec import SIDES
from napari_cnnvis.scan.files import write_volume

from ..waiting import settle
from .marked_scans import add, coloured, make_map, make_scan, said


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
    settle(qtbot, loaded)
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
    settle(qtbot, loaded)
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
    settle(qtbot, panel)
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
    settle(qtbot, loaded)
    (position,) = read_figure(tmp_path / "plate.json").spec.positions
    np.testing.assert_allclose(position, (-6, 4, 3), atol=1e-6)


def test_scan_and_map_from_files_can_be_drawn_again(qtbot, panel, tmp_path):
    scan = make_scan()
    write_volume(scan, tmp_path / "scan.nii")
    map_ = make_map(scan)
    map_ = replace(map_, record=map_.record.with_values(versions={}))
    map_.save(tmp_path / "map.nii")
    PluginManager.instance().discover()
    for name in ("scan.nii", "map.nii"):
        panel.viewer.open(str(tmp_path / name), plugin="napari-cnnvis")
    panel.save_views(tmp_path / "plate.png")
    settle(qtbot, panel)
    assert "not in a file" not in said(panel)
    again = read_figure(tmp_path / "plate.json").volumes()
    np.testing.assert_array_equal(again[1].data, map_.data)


def test_what_cannot_be_drawn_is_said(qtbot, loaded, tmp_path):
    loaded.save_slices(tmp_path / "plate.jpg")
    settle(qtbot, loaded)
    assert said(loaded).startswith("⚠ A figure cannot be written as plate.jpg")
    loaded.open_record(tmp_path / "none.json")
    assert "There is no file" in said(loaded)


def test_the_json_of_a_plate_sets_the_form(qtbot, loaded, tmp_path):
    loaded.form.count.setValue(7)
    loaded.form.title.setText("  ")
    loaded.save_lightbox(tmp_path / "plate.png")
    settle(qtbot, loaded)
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
    settle(qtbot, loaded)
    assert (tmp_path / "plate.tif").exists()


def test_pixels_follow_width_and_dpi_and_the_other_way_round(panel):
    size = panel.form.size
    size.width_mm.setValue(127)
    size.resolution.setValue(200)
    assert size.pixels.value() == 1000
    size.pixels.setValue(777)
    assert panel.spec().pixels == 777
    assert size.resolution.value() == pytest.approx(155.4)
