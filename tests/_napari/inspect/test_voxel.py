"""What the panel "Inspect" says of a clicked voxel, and the chain of regions about it."""

from types import SimpleNamespace

import numpy as np
import pytest
from napari.layers import Image

from napari_cnnvis._napari.inspect.chain import DropPlot
from napari_cnnvis._napari.layers.maps import style_overlay
from napari_cnnvis._napari.layers.metadata import is_aside
from napari_cnnvis._napari.layers.place import affine_of, place_text
from napari_cnnvis._napari.layers.scans import ScanLayer, set_scan
from napari_cnnvis.scan.volume import Volume

from .made_maps import SHAPE, add_map, attribution, click, two_blobs, ucm_map


def test_places_without_a_known_orientation_have_no_letters():
    layer = Image(np.zeros(SHAPE), scale=(2, 2, 3))
    np.testing.assert_array_equal(affine_of(layer), np.diag([2, 2, 3, 1]))
    assert place_text(layer, (1.4, -2.6, 3)) == "1, -3, 3 mm"
    set_scan(layer, ScanLayer(np.eye(4)))
    assert place_text(layer, (24.2, -31.6, 8)) == "R 24, P 32, S 8 mm"


def test_click_lists_the_exact_values_of_the_visible_maps(panel, viewer, scan):
    rng = np.random.default_rng(0)
    maps = [add_map(viewer, scan, rng.random(SHAPE[::-1]).reshape(SHAPE)) for _ in range(3)]
    for number, layer in enumerate(maps):
        layer.name = f"map {number}"
    maps[1].visible = False
    panel.map.choose(maps[0])
    expected = [maps[2].data[4, 5, 6], maps[0].data[4, 5, 6]]
    panel.threshold.setValue(0.95)
    panel.minimum.setValue(1000)  # hides everything, which changes no value
    click(viewer, panel, scan, (4, 5, 6))
    assert panel.voxel.values.texts() == [
        ("map 2", f"{expected[0]:.4g}"),
        ("map 0", f"{expected[1]:.4g}"),
    ]
    before = panel.voxel.values.texts()
    click(viewer, panel, scan, (400, 5, 6))  # beside the scan
    assert panel.voxel.values.texts() == before


def test_click_in_3d_looks_at_the_strongest_that_is_seen(panel, viewer, scan):
    layer = add_map(viewer, scan, two_blobs())
    data = layer.data.copy()
    data[13, 16, :] = np.linspace(0, 0.4, SHAPE[2])
    layer.data = data
    viewer.dims.ndisplay = 3
    ahead = np.array(layer.data_to_world((13, 16, 1))) - layer.data_to_world((13, 16, 0))
    event = SimpleNamespace(
        position=np.array(layer.data_to_world((13, 16, -30))),
        dims_displayed=[0, 1, 2],
        view_direction=ahead / np.linalg.norm(ahead),
    )
    panel.threshold.setValue(0.5)
    panel._on_click(event)
    assert panel.voxel.voxel is None
    panel.threshold.setValue(0.1)
    panel._on_click(event)
    assert panel.voxel.voxel == (13, 16, 23)
    signed = layer.data.copy()
    signed[13, 16, 5], signed[13, 16, 23] = -0.7, 0.3
    style_overlay(layer, attribution(signed, Volume(signed)))
    panel.threshold.setValue(0.1)
    panel._on_click(event)
    assert panel.voxel.voxel == (13, 16, 22)
    panel.threshold.setValue(0.5)
    panel._on_click(event)
    assert panel.voxel.voxel == (13, 16, 5)


def test_real_clicks_reach_the_panel(panel, viewer, scan):
    add_map(viewer, scan, two_blobs())
    event = SimpleNamespace(
        button=1, modifiers=(), type="mouse_press", pos=(10, 10), dims_displayed=[1, 2],
        position=scan.data_to_world((2, 3, 4)), view_direction=None,
    )  # fmt: skip
    callback = viewer.mouse_drag_callbacks[-1]
    listening = callback(viewer, event)
    next(listening)
    event.type = "mouse_release"
    next(listening, None)
    assert panel.voxel.voxel == (2, 3, 4)
    assert panel.voxel.values.texts()[0][1] == "0.5"


def test_marked_voxel_is_a_layer_that_changes_no_selection(panel, viewer, scan):
    layer = add_map(viewer, scan, two_blobs())
    viewer.layers.selection.active = layer
    click(viewer, panel, scan, (4, 5, 6))
    mark = viewer.layers[-1]
    assert is_aside(mark)
    np.testing.assert_allclose(mark.data_to_world(mark.data[0]), scan.data_to_world((4, 5, 6)))
    assert viewer.layers.selection.active is layer
    click(viewer, panel, scan, (7, 8, 9))
    assert len(viewer.layers) == 3
    np.testing.assert_array_equal(mark.data, [(7, 8, 9)])
    viewer.layers.remove(mark)
    click(viewer, panel, scan, (1, 1, 1))
    np.testing.assert_array_equal(viewer.layers[-1].data, [(1, 1, 1)])


def test_chain_of_a_ucm_map_has_the_drops_and_sizes_of_the_scored_regions(panel, viewer, scan):
    _, scores = ucm_map(viewer, scan)
    values = scores.values(1, "drop", "probability")
    for voxel in ((4, 5, 6), (19, 0, 12), (10, 21, 23)):
        click(viewer, panel, scan, voxel)
        nodes = [n for n in scores.hierarchy.chain(voxel) if np.isfinite(values[n])]
        plot, table = panel.voxel.chain.plot, panel.voxel.chain.table
        np.testing.assert_array_equal(plot.drops, values[nodes])
        np.testing.assert_allclose(plot.volumes, scores.hierarchy.sizes[nodes] * 3.0)
        assert [row[1] for row in table.texts()] == [f"{values[n]:+.3g}" for n in nodes]
    assert not panel.voxel.chain.isHidden()
    assert not panel.voxel.field.isEnabled()
    add_map(viewer, scan, two_blobs())
    panel.map.choose(viewer.layers[-1])
    click(viewer, panel, scan, (4, 5, 6))
    assert panel.voxel.chain.isHidden()


@pytest.mark.parametrize(
    "drops", [[], [0.2], [0.0, 0.0], [-0.5, 0.1, 0.7], [np.float64(1e-12), 1e3]]
)
def test_any_drops_can_be_drawn(qtbot, drops):
    plot = DropPlot()
    qtbot.addWidget(plot)
    plot.resize(300, 150)
    blank = plot.grab().toImage()
    plot.show_drops(np.geomspace(3, 5e5, len(drops)), drops)
    drawn = plot.grab().toImage()
    assert (drawn != blank) == bool(drops)
