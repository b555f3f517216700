"""Planes that cut every image open."""

import numpy as np
import pytest
from napari.layers import Image

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
