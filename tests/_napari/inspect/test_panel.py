"""The panel "Inspect" as a whole: empty, closed, with layers that come and go."""

import numpy as np

from napari_cnnvis._napari.inspect.marks import FIELD_NAME
from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis.models.layouts import LayerGrid

from .made_maps import add_atlas, add_map, click, native_of, two_blobs


def test_empty_panel_says_what_to_do(panel, scan):
    assert panel.view is None
    assert "Explain CNN" in panel.said.text()
    assert not panel.threshold.isEnabled()
    panel.peaks.choose(0)
    panel.jump((1, 2, 3))
    assert len(panel._viewer.layers) == 1


def test_closing_the_panel_puts_everything_back(panel, viewer, scan):
    data = two_blobs()
    data[2:5] *= -1
    layer = add_map(viewer, scan, data, native=native_of(scan, (5, 5, 5)))
    raw, plain, smooth = layer.data, layer.colormap, layer.interpolation2d
    panel.threshold.setValue(0.1)
    panel.minimum.setValue(100)
    panel.native_cells.setChecked(True)
    panel.peaks.jump.click()
    panel.closed()
    assert layer.data is raw
    assert layer.colormap is plain
    assert layer.interpolation2d == smooth
    assert map_of(layer).values is raw
    assert list(viewer.layers) == [scan, layer]
    panel.docked()
    assert panel.view.layer is layer
    panel.minimum.setValue(100)
    assert layer.data is not raw


def test_deleted_layers_cause_no_error(qtbot, panel, viewer, scan):
    grid = LayerGrid((4.0, 4.0, 4.0), (6.0, 6.0, 6.0), (5.0, 5.0, 5.0))
    layer = add_map(viewer, scan, two_blobs(), native_of(scan, (3, 3, 3), grid=grid))
    raw = layer.data
    other = add_map(viewer, scan, np.flip(two_blobs()).copy())
    atlas = add_atlas(viewer, scan)
    panel.map.choose(layer)
    panel.minimum.setValue(100)
    panel.threshold.setValue(0.2)
    click(viewer, panel, scan, (4, 5, 6))
    panel.regions.measure()
    viewer.layers.remove(atlas)
    qtbot.waitUntil(lambda: not panel.regions.jobs.busy, timeout=30_000)
    assert panel.regions.rows == []
    viewer.layers.remove(FIELD_NAME)
    viewer.dims.ndisplay = 3
    viewer.layers.remove(layer)
    assert layer.data is raw
    assert panel.view.layer is other
    panel.peaks.next.click()
    viewer.layers.clear()
    assert panel.view is None
    for button in (panel.peaks.jump, panel.peaks.next, panel.regions.measure_button):
        button.click()
    panel.minimum.setValue(5)
    panel.threshold.setValue(0.1)
    panel.native_cells.setChecked(True)
    qtbot.wait(200)  # what was due


def test_panel_is_no_container_to_napari(panel):
    assert not hasattr(panel, "native")  # napari would dock that instead
