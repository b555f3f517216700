"""Planes that cut every image open."""

import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtWidgets import QLineEdit

from napari_cnnvis._napari.figure.camera import ScanAxes
from napari_cnnvis._napari.layers.scans import volume_to_layer

from .marked_scans import SHAPE, WORLD, make_scan


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


def fields(slider):
    """Where a slider's two ends can be read and typed, from left to right."""
    found = [field for field in slider.findChildren(QLineEdit) if not field.isHidden()]
    return sorted(found, key=lambda field: field.x())


def shown(slider):
    return [field.text() for field in fields(slider)]


def test_sliders_put_planes_on_every_image(loaded):
    low, high = loaded.form.cut_away.sliders[0].minimum(), loaded.form.cut_away.sliders[0].maximum()
    loaded.form.cut_away.sliders[0].setValue((0, high))
    for layer in (loaded.scan_layer, loaded.overlay):
        (plane,) = layer.experimental_clipping_planes
        # in the world, where right is -x: kept is what lies to the right of 0 mm
        assert plane.position[2] == pytest.approx(0)
        np.testing.assert_allclose(plane.normal, WORLD["R"], atol=1e-9)
    assert shown(loaded.form.cut_away.sliders[0]) == ["0", "15"]
    loaded.form.cut_away.sliders[0].setValue((low, 2))
    (plane,) = loaded.overlay.experimental_clipping_planes
    np.testing.assert_allclose(plane.normal, WORLD["L"], atol=1e-9)
    new = loaded.viewer.add_image(np.ones(SHAPE))
    assert len(new.experimental_clipping_planes) == 1
    loaded.form.whole.click()
    assert not loaded.scan_layer.experimental_clipping_planes
    assert not new.experimental_clipping_planes


@pytest.mark.parametrize(
    ("typed", "ends"), [(("-6", "3"), (-6, 3)), (("12", "4"), (4, 12)), (("-99", "99"), (-17, 15))]
)
def test_ends_can_be_typed_in_either_order(loaded, typed, ends):
    cut_away = loaded.form.cut_away
    for field, text in zip(fields(cut_away.sliders[0]), typed, strict=True):
        field.setText(text)
        field.editingFinished.emit()
    assert cut_away.ranges[0] == ends
    assert shown(cut_away.sliders[0]) == [str(end) for end in ends]


def test_a_closed_panel_leaves_no_cut_behind(loaded):
    loaded.form.cut_away.sliders[1].setValue((0, 5))
    loaded.closed()
    assert not loaded.scan_layer.experimental_clipping_planes
