"""The panel "Inspect": threshold, clusters, peaks, voxels, cells and regions of a map."""

import csv
import dataclasses
import itertools
import subprocess
import sys
import time
from types import SimpleNamespace

import napari.utils.colormaps
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer

import napari_cnnvis as cv
from napari_cnnvis._napari.inspect import region_table as inspect_regions
from napari_cnnvis._napari.inspect.cells import Field, NativeCells
from napari_cnnvis._napari.inspect.chain import DropPlot
from napari_cnnvis._napari.inspect.label_volumes import names_of
from napari_cnnvis._napari.inspect.marks import FIELD_NAME, MARK_KEY, outline
from napari_cnnvis._napari.inspect.panel import InspectPanel
from napari_cnnvis._napari.layers.maps import CELLS_KEY, RAW_KEY, overlay_arguments, style_overlay
from napari_cnnvis._napari.layers.place import affine_of, place_text
from napari_cnnvis._napari.layers.scans import METADATA_KEY, volume_to_layer
from napari_cnnvis.evaluate.clustering import clusters
from napari_cnnvis.evaluate.roi_tables import roi_table
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.layers.layer_maps import nearest_cells
from napari_cnnvis.explain.scoring.region_scores import RegionScores
from napari_cnnvis.models.outputs import Outputs
from napari_cnnvis.models.receptive_field import LayerGrid
from napari_cnnvis.scan.conform import InputSpec, conform
from napari_cnnvis.scan.volume import Volume

SHAPE = (20, 22, 24)
OBLIQUE = np.array(
    [[-1.0, 0.1, 0.05, 30], [0.12, 1.5, -0.2, -40], [-0.02, 0.2, 2.0, 5], [0, 0, 0, 1]]
)


def make_volume(orientation="RAS", affine=OBLIQUE):
    data = np.zeros(SHAPE[::-1], np.float32)  # R, A, S; layers are S, A, R
    return Volume(data, affine, "scan").reoriented(orientation)


def attribution(data, volume, regions=None, **more):
    entries = {"method": "Grad-CAM", "class_name": "patient", "layer": "relu4", **more}
    return Attribution(data.astype(np.float32), volume.affine, entries, volume, regions=regions)


def add_map(viewer, scan, data, native=None, regions=None, **more):
    """An overlay as the panel "Explain CNN" adds it; `data` is on the scan layer's grid."""
    made = attribution(data, Volume(data), regions, **more)
    arguments = overlay_arguments(made, scan)
    if native is not None:
        arguments["metadata"][CELLS_KEY] = native
    return viewer.add_image(made.data, **arguments)


def two_blobs():
    """A large part of 60 voxels and a small one of 8, stronger."""
    data = np.zeros(SHAPE)
    data[2:5, 3:7, 4:9] = 0.5
    data[3, 5, 6] = 0.6
    data[12:14, 15:17, 18:20] = 0.8
    data[13, 16, 19] = 0.9
    return data.astype(np.float32)


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def scan(viewer):
    data, attributes = volume_to_layer(make_volume("RAS", np.diag([1.0, 1.5, 2.0, 1])))
    return viewer.add_image(data, **attributes)


@pytest.fixture
def panel(qtbot, viewer):
    panel = InspectPanel(viewer)
    qtbot.addWidget(panel)
    yield panel
    qtbot.waitUntil(lambda: not panel.regions.jobs.busy, timeout=30_000)


def alpha(layer, values):
    """How opaque values are shown."""
    low, high = layer.contrast_limits
    place = (np.asarray(values, float) - low) / (high - low)
    shown = layer.colormap.map(place.clip(0, 1))[:, 3]
    if layer.colormap.low_color is not None:
        shown[place < 0] = layer.colormap.low_color[3]
    return shown


def click(viewer, panel, layer, voxel):
    panel._on_click(
        SimpleNamespace(
            position=layer.data_to_world(voxel), dims_displayed=[1, 2], view_direction=None
        )
    )


# --- threshold and opacity ------------------------------------------------------------


def test_empty_panel_says_what_to_do(panel, scan):
    assert panel.view is None
    assert "Explain CNN" in panel.said.text()
    assert not panel.threshold.isEnabled()
    panel.peaks.choose(0)
    panel.jump((1, 2, 3))
    assert len(panel._viewer.layers) == 1


def test_threshold_of_a_map_of_one_side_is_its_lower_contrast_limit(panel, viewer, scan):
    layer = add_map(viewer, scan, two_blobs())
    upper = layer.contrast_limits[1]
    panel.threshold.setValue(0.3)
    assert layer.contrast_limits == pytest.approx([0.3, upper])
    assert alpha(layer, [0, 0.29]).max() == 0
    assert alpha(layer, [0.5]) > 0
    layer.contrast_limits = (0.45, upper)
    assert panel.threshold.value() == pytest.approx(0.45)


def test_signed_map_is_transparent_below_the_threshold_on_both_sides(panel, viewer, scan):
    data = two_blobs()
    data[12:14] *= -1
    layer = add_map(viewer, scan, data)
    plain, limits = layer.colormap, layer.contrast_limits
    names = set(napari.utils.colormaps.AVAILABLE_COLORMAPS)
    values = np.linspace(-0.9, 0.9, 1801)
    for threshold in (0.2, 0.31, 0.5, 0.77):
        panel.threshold.setValue(threshold)
        shown = alpha(layer, values)
        assert shown[np.abs(values) < threshold - 1e-9].max() == 0
        far = np.abs(values) > threshold + 0.01
        low, high = limits
        expected = plain.map((values[far] - low) / (high - low))
        place = (values[far] - low) / (high - low)
        np.testing.assert_allclose(layer.colormap.map(place), expected, atol=0.01)
        assert layer.contrast_limits == limits
    assert len(set(napari.utils.colormaps.AVAILABLE_COLORMAPS) - names) <= 1
    panel.threshold.setValue(0)
    assert layer.colormap is plain


def test_colours_that_the_user_chose_are_cut_and_come_back(panel, viewer, scan):
    layer = add_map(viewer, scan, two_blobs() - 0.3)
    panel.threshold.setValue(0.2)
    layer.colormap = "turbo"
    assert alpha(layer, [0.1, -0.1]).max() == 0
    assert alpha(layer, [0.5]) == 1
    panel.threshold.setValue(0)
    assert layer.colormap.name == "turbo"


def test_a_threshold_is_moved_in_less_than_a_tenth_of_a_second(panel, viewer):
    data = np.random.default_rng(0).normal(size=(110, 110, 110)).astype(np.float32)
    viewer.add_image(np.zeros_like(data), name="scan")
    for map_ in (data, np.abs(data)):
        add_map(viewer, viewer.layers[0], map_)
        panel.minimum.setValue(100)
        spent = []
        for threshold in np.linspace(0.5, 2, 8):
            began = time.perf_counter()
            panel.threshold.setValue(threshold)
            spent.append(time.perf_counter() - began)
        assert np.median(spent) < 0.1


def test_opacity_is_the_layers(panel, viewer, scan):
    layer = add_map(viewer, scan, two_blobs())
    panel.opacity.setValue(0.4)
    assert layer.opacity == pytest.approx(0.4)
    layer.opacity = 0.7
    assert panel.opacity.value() == pytest.approx(0.7)


# --- clusters --------------------------------------------------------------------------


def test_small_clusters_are_hidden_and_the_very_same_map_comes_back(panel, viewer, scan):
    data = two_blobs()
    layer = add_map(viewer, scan, data)
    raw, metadata = layer.data, dict(layer.metadata)
    panel.threshold.setValue(0.1)
    panel.minimum.setValue(100)  # voxels are 3 mm3: 180 and 24
    expected, _ = clusters(raw, 0.1, (2.0, 1.5, 1.0), 100)
    np.testing.assert_array_equal(layer.data, np.where(expected, raw, 0))
    assert layer.data[13, 16, 19] == 0
    assert layer.data[3, 5, 6] == np.float32(0.6)
    assert panel.cluster_count.text() == "1 of 2 clusters shown"
    assert layer.metadata[RAW_KEY] is raw
    np.testing.assert_array_equal(raw, data)
    panel.minimum.setValue(0)
    assert layer.data is raw
    assert layer.metadata.keys() == metadata.keys()
    assert panel.cluster_count.text() == ""


def test_clusters_follow_the_threshold_when_it_rests(qtbot, panel, viewer, scan):
    layer = add_map(viewer, scan, two_blobs())
    panel.minimum.setValue(1)
    panel.threshold.setValue(0.7)
    qtbot.waitUntil(lambda: panel.cluster_count.text() == "1 of 1 clusters shown", timeout=5000)
    assert (layer.data > 0).sum() == 8


def test_clusters_of_a_signed_map_are_those_of_both_sides(panel, viewer, scan):
    data = two_blobs()
    data[2:5] *= -1
    layer = add_map(viewer, scan, data)
    panel.minimum.setValue(100)
    np.testing.assert_array_equal(layer.data, np.minimum(data, 0))


def test_another_map_in_the_same_layer_is_filtered_and_kept_as_well(panel, viewer, scan):
    layer = add_map(viewer, scan, two_blobs())
    panel.minimum.setValue(100)
    other = attribution(np.flip(two_blobs(), 0).copy(), make_volume())
    style_overlay(layer, other)
    assert layer.metadata[RAW_KEY] is other.data
    assert (layer.data != 0).sum() == 60
    panel.minimum.setValue(0)
    assert layer.data is other.data
    signed = attribution(two_blobs() - 0.4, make_volume())
    style_overlay(layer, signed)
    panel.threshold.setValue(0.3)
    assert alpha(layer, [0.2, -0.2]).max() == 0
    style_overlay(layer, other)
    assert panel.threshold.value() == 0
    assert alpha(layer, [0.3]) > 0
    assert layer.colormap.name.startswith("CNN Vis")
    assert layer.colormap.low_color is not None


def test_each_map_keeps_its_own_settings(panel, viewer, scan):
    first = add_map(viewer, scan, two_blobs())
    panel.map.choose(first)
    panel.minimum.setValue(100)
    second = add_map(viewer, scan, np.flip(two_blobs()).copy())
    panel.map.choose(second)
    assert panel.minimum.value() == 0
    assert (second.data != 0).sum() == 68
    panel.map.choose(first)
    assert panel.minimum.value() == 100
    assert (first.data != 0).sum() == 60


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
    assert RAW_KEY not in layer.metadata
    assert list(viewer.layers) == [scan, layer]
    panel.docked()
    assert panel.view.layer is layer
    panel.minimum.setValue(100)
    assert layer.data is not raw


def test_duplicate_of_a_filtered_map_has_all_its_values_again(panel, viewer, scan):
    layer = add_map(viewer, scan, two_blobs())
    panel.minimum.setValue(100)
    viewer.add_layer(copy := Layer.create(*layer.as_layer_data_tuple()))
    panel.map.choose(copy)
    np.testing.assert_array_equal(copy.data, two_blobs())
    assert RAW_KEY not in copy.metadata


# --- peaks -----------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "SAR", "PIL"])
def test_jump_goes_to_the_voxel_and_says_where_it_is_in_the_scanner(
    panel, viewer, qtbot, orientation
):
    volume = make_volume(orientation)
    voxel = (3, 14, 7)
    volume.data[voxel] = 0.5
    data, attributes = volume_to_layer(volume)
    scan = viewer.add_image(np.zeros(data.shape, np.float32), **attributes)
    layer = add_map(viewer, scan, data)
    panel.peaks.jump.click()
    (there,) = np.argwhere(layer.data)
    np.testing.assert_allclose(viewer.dims.point, layer.data_to_world(there))
    assert viewer.dims.current_step == tuple(
        np.round((np.array(viewer.dims.point) - [r.start for r in viewer.dims.range])
                 / [r.step for r in viewer.dims.range]).astype(int)
    )  # fmt: skip
    mm = (volume.affine @ [*voxel, 1])[:3]
    np.testing.assert_allclose(panel.peaks.peaks[0].mm, mm)
    x, y, z = (abs(round(c)) for c in mm)
    letters = [pair[int(c < 0)] for pair, c in zip(("RL", "AP", "SI"), mm, strict=True)]
    place = f"{letters[0]} {x}, {letters[1]} {y}, {letters[2]} {z} mm"
    assert panel.peaks.said.text() == f"peak 1 of 1: 0.5 at {place}"
    assert place in panel.voxel.place.text()


def test_next_and_previous_go_round(panel, viewer, scan):
    add_map(viewer, scan, two_blobs())
    browser = panel.peaks
    browser.next.click()
    assert browser.said.text().startswith("peak 1 of 2: 0.9 ")
    assert panel.voxel.voxel == (13, 16, 19)
    browser.next.click()
    assert browser.said.text().startswith("peak 2 of 2: 0.6 ")
    assert panel.voxel.voxel == (3, 5, 6)
    browser.next.click()
    assert browser.current == 0
    browser.previous.click()
    assert browser.current == 1


def test_peaks_that_are_not_shown_are_left_out(panel, viewer, scan):
    add_map(viewer, scan, two_blobs())
    panel.peaks.jump.click()
    panel.minimum.setValue(100)  # the stronger one is in the small cluster
    assert panel.peaks.said.text() == "1 peaks above the threshold."
    panel.peaks.next.click()
    assert panel.voxel.voxel == (3, 5, 6)
    panel.minimum.setValue(0)
    assert panel.peaks.said.text().startswith("peak 2 of 2")
    panel.threshold.setValue(0.7)
    panel.peaks.jump.click()
    assert panel.peaks.said.text().startswith("peak 1 of 1: 0.9")
    panel.view.layer.contrast_limits = (0.95, 1)
    panel.peaks.jump.click()
    assert "Nothing" in panel.peaks.said.text()


def test_jump_in_3d_turns_about_the_peak(panel, viewer, scan):
    layer = add_map(viewer, scan, two_blobs())
    viewer.dims.ndisplay = 3
    panel.peaks.jump.click()
    camera = viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera
    np.testing.assert_allclose(camera.center, layer.data_to_world((13, 16, 19)))


def test_jump_moves_the_picture_only_if_the_peak_is_outside(panel, viewer, scan):
    layer = add_map(viewer, scan, two_blobs())
    camera = viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera
    world = np.array(layer.data_to_world((13, 16, 19)))
    camera.zoom = 10
    camera.center = (0, world[1] + 20, world[2] - 20)
    before = camera.center
    panel.peaks.jump.click()
    if hasattr(viewer, "canvas"):
        assert camera.center == before
    camera.center = (0, world[1] + 200, world[2])
    panel.peaks.jump.click()
    np.testing.assert_allclose(camera.center[1:], world[1:])


def test_places_without_a_known_orientation_have_no_letters():
    layer = Image(np.zeros(SHAPE), scale=(2, 2, 3))
    np.testing.assert_array_equal(affine_of(layer), np.diag([2, 2, 3, 1]))
    assert place_text(layer, (1.4, -2.6, 3)) == "1, -3, 3 mm"
    known = {"affine": np.eye(4), "orientation_known": True}
    layer.metadata = {METADATA_KEY: known}
    assert place_text(layer, (24.2, -31.6, 8)) == "R 24, P 32, S 8 mm"


# --- a voxel ---------------------------------------------------------------------------


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
    assert mark.metadata[MARK_KEY]
    np.testing.assert_allclose(mark.data_to_world(mark.data[0]), scan.data_to_world((4, 5, 6)))
    assert viewer.layers.selection.active is layer
    click(viewer, panel, scan, (7, 8, 9))
    assert len(viewer.layers) == 3
    np.testing.assert_array_equal(mark.data, [(7, 8, 9)])
    viewer.layers.remove(mark)
    click(viewer, panel, scan, (1, 1, 1))
    np.testing.assert_array_equal(viewer.layers[-1].data, [(1, 1, 1)])


def ucm_map(viewer, scan):
    rng = np.random.default_rng(0)
    fine = np.arange(64).reshape(4, 4, 4).repeat(5, 0).repeat(6, 1).repeat(6, 2)
    fine = fine[tuple(slice(n) for n in SHAPE)]
    hierarchy = cv.Hierarchy.from_levels([fine, fine // 2, fine // 16, fine // 32])
    logits = rng.normal(size=(2, hierarchy.n_nodes, 2)).astype(np.float32)
    logits[:, 5::7] = np.nan
    scores = RegionScores(
        np.array([0.3, -0.2], np.float32),
        logits,
        ("blur", "0"),
        Outputs("softmax", 2),
        hierarchy,
        hierarchy.levels,
    )
    provenance = {"method": "UCM sensitivity", "layer": None, "class": 1, "score": "probability"}
    return add_map(viewer, scan, scores.map(1), regions=scores, **provenance), scores


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


# --- cells and what they see --------------------------------------------------------------


def native_of(scan, shape, spec=None, alignment="stretch", grid=None, seed=0):
    """Cells of a network's layer of this shape on a scan's layer, as the metadata holds them."""
    known = scan.metadata[METADATA_KEY]
    volume = Volume(scan.data, known["affine"], stored_orientation=known["stored_orientation"])
    conformed = conform(volume, spec or InputSpec())
    cells = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    where = grid if alignment == "receptive field" else None
    near = nearest_cells(cells, conformed.data.shape, where)
    return {
        "cells": cells,
        "nearest": lambda: conformed.back(near, 0),
        "affine": conformed.affine,
        "shape": conformed.data.shape,
        "grid": grid,
        "alignment": alignment,
    }


SPECS = {
    "as it is": InputSpec(),
    "flipped and permuted": InputSpec(orientation="PIR"),
    "cropped and padded": InputSpec(shape=(16, 30, 24)),
    "resampled": InputSpec(spacing=(2, 2, 2), orientation="LAS", shape=(20, 24, 12)),
    "resized": InputSpec(shape=(9, 8, 11), resize=True),
}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("alignment", ["stretch", "receptive field"])
def test_native_cells_are_the_librarys_and_each_voxel_knows_its_own(panel, viewer, name, alignment):
    data, attributes = volume_to_layer(make_volume("LPI"))
    scan = viewer.add_image(data, **attributes)
    grid = LayerGrid((3.0, 2.5, 1.0), (4.0, 5.0, 3.0), (9.0, 8.0, 5.0))
    native = native_of(scan, (4, 3, 5), SPECS[name], alignment, grid)
    layer = add_map(viewer, scan, two_blobs().reshape(data.shape), native)
    raw = layer.data
    panel.native_cells.setChecked(True)
    np.testing.assert_array_equal(layer.data, native["nearest"]())
    grid = NativeCells.of(layer).grid
    for voxel in np.ndindex(data.shape):
        cell = grid.cell_at(voxel)
        assert layer.data[voxel] == (0 if cell is None else native["cells"][cell])
    assert layer.interpolation2d == layer.interpolation3d == "nearest"
    assert panel.view.values is layer.data
    panel.native_cells.setChecked(False)
    assert layer.data is raw
    assert layer.interpolation2d == "linear"


def test_cell_size_is_told_in_mm_along_the_shown_axes(panel, viewer, scan):
    native = native_of(scan, (4, 11, 5))
    layer = add_map(viewer, scan, two_blobs(), native)
    # the scan's spacing is 2 (S), 1.5 (A), 1 (R) mm; 20 x 22 x 24 voxels
    assert panel.native_cells.text() == "Native cells (8 × 3 × 6 mm)"
    assert panel.native_cells.isEnabled()
    little = {key: native[key] for key in ("cells", "nearest")}
    layer.metadata = {**layer.metadata, CELLS_KEY: little}
    assert panel.native_cells.text() == "Native cells (4 × 11 × 5)"
    panel.native_cells.setChecked(True)
    np.testing.assert_array_equal(layer.data, native["nearest"]())
    click(viewer, panel, scan, (3, 4, 5))
    assert not panel.voxel.field.isEnabled()
    assert "not known" in panel.voxel.field.toolTip()


def test_native_cells_are_grey_with_a_reason_where_there_are_none(panel, viewer, scan):
    add_map(viewer, scan, two_blobs())
    assert not panel.native_cells.isEnabled()
    assert "not kept" in panel.native_cells.toolTip()
    ucm_map(viewer, scan)
    panel.map.choose(viewer.layers[-1])
    assert "not made on a target layer" in panel.native_cells.toolTip()
    add_map(viewer, scan, two_blobs(), model={"input": {"window": [8, 8, 8]}})
    panel.map.choose(viewer.layers[-1])
    assert "windows" in panel.native_cells.toolTip()


def test_cells_follow_when_the_layer_shows_another_map(panel, viewer, scan):
    layer = add_map(viewer, scan, two_blobs(), native_of(scan, (5, 5, 5)))
    panel.native_cells.setChecked(True)
    other = native_of(scan, (2, 2, 2), seed=1)
    made = attribution(two_blobs(), Volume(two_blobs()))
    both = {"native": other["cells"], "nearest": other["nearest"]}
    style_overlay(layer, dataclasses.replace(made, **both))
    assert set(np.unique(layer.data)) == set(np.unique(other["cells"]))
    assert panel.native_cells.isChecked()
    style_overlay(layer, made)
    assert not panel.native_cells.isChecked()
    np.testing.assert_array_equal(layer.data, two_blobs())


@pytest.mark.parametrize("name", ["as it is", "flipped and permuted", "resampled"])
def test_receptive_field_box_holds_the_voxels_that_the_cell_sees(panel, viewer, name):
    data, attributes = volume_to_layer(make_volume("LPI"))
    scan = viewer.add_image(data, **attributes)
    grid = LayerGrid((3.0, 2.5, 1.0), (4.0, 5.0, 3.0), (5.0, 6.0, 3.0))
    native = native_of(scan, (4, 3, 5), SPECS[name], "receptive field", grid)
    layer = add_map(viewer, scan, two_blobs().reshape(data.shape), native)
    cells = NativeCells.of(layer).grid
    to_input = np.linalg.inv(native["affine"]) @ affine_of(layer)
    voxels = np.argwhere(np.ones(data.shape, bool))
    places = voxels @ to_input[:3, :3].T + to_input[:3, 3]
    for cell in itertools.product((0, 2), (1, 2), (0, 3)):
        centre = np.add(grid.start, np.multiply(grid.step, cell))
        seen = voxels[(np.abs(places - centre) < np.divide(grid.size, 2) + 1e-6).all(axis=1)]
        field = cells.field_of(cell)
        low = np.maximum(field.low, 0)
        high = np.minimum(field.high, np.array(data.shape) - 1)
        if not len(seen):
            assert (low > high).any()
            continue
        np.testing.assert_array_equal(seen.min(axis=0), low)
        np.testing.assert_array_equal(seen.max(axis=0), high)
        sides = np.multiply(grid.size, np.linalg.norm(native["affine"][:3, :3], axis=0))
        assert sorted(field.size_mm) == pytest.approx(sorted(sides))


def test_box_is_shown_about_the_clicked_cell_in_2d_and_3d(panel, viewer, scan):
    grid = LayerGrid((4.0, 4.0, 4.0), (6.0, 6.0, 6.0), (5.0, 5.0, 5.0))
    native = native_of(scan, (3, 3, 3), grid=grid, alignment="receptive field")
    layer = add_map(viewer, scan, two_blobs(), native)
    viewer.layers.selection.active = layer
    click(viewer, panel, scan, (11, 9, 12))  # cell 1, 1, 1: voxels 8 to 12 along each axis
    box = viewer.layers[FIELD_NAME]
    assert isinstance(box, Labels)
    frame = np.zeros(SHAPE, np.uint8)
    frame[8:13, 8:13, 8:13] = 1
    frame[8:13, 9:12, 9:12] = 0
    np.testing.assert_array_equal(box.data, frame)
    np.testing.assert_allclose(box.data_to_world((1, 2, 3)), scan.data_to_world((1, 2, 3)))
    assert "10 × 8 × 5 mm (5 × 5 × 5 voxels" in panel.voxel.field_said.text()
    assert "beyond" not in panel.voxel.field_said.text()
    assert viewer.layers.selection.active is layer
    viewer.dims.ndisplay = 3
    assert box.data.sum() == 12 * 5 - 2 * 8  # twelve edges that share eight corners
    panel.voxel.field.setChecked(False)
    assert FIELD_NAME not in viewer.layers
    panel.voxel.field.setChecked(True)
    assert FIELD_NAME in viewer.layers


def test_click_where_the_network_sees_nothing_shows_no_box(panel, viewer, scan):
    grid = LayerGrid((4.0, 4.0, 4.0), (2.0, 2.0, 2.0), (5.0, 5.0, 5.0))
    native = native_of(scan, (3, 3, 3), InputSpec(shape=(12, 12, 12)), grid=grid)
    add_map(viewer, scan, two_blobs(), native)
    click(viewer, panel, scan, (10, 11, 12))
    assert FIELD_NAME in viewer.layers
    click(viewer, panel, scan, (18, 18, 18))
    assert FIELD_NAME not in viewer.layers
    assert panel.voxel.field_said.isHidden()


@settings(max_examples=30)
@given(
    st.tuples(*[st.integers(-4, 8)] * 3),
    st.tuples(*[st.integers(1, 12)] * 3),
    st.sampled_from([(1, 2), (0, 1), (2, 0), (0, 1, 2)]),
)
def test_outline_is_drawn_where_sides_lie_inside(low, size, displayed):
    shape = (5, 6, 7)
    high = np.add(low, size) - 1
    field = Field(np.array(low), high, np.zeros(3), np.zeros(3))
    expected = np.zeros(shape, np.uint8)
    for voxel in np.ndindex(shape):
        if (np.array(voxel) >= low).all() and (np.array(voxel) <= high).all():
            sides = [(voxel[a] == low[a]) + (voxel[a] == high[a] != low[a]) for a in displayed]
            expected[voxel] = sum(sides) >= len(displayed) - 1
    np.testing.assert_array_equal(outline(field, shape, displayed), expected)


# --- regions of interest --------------------------------------------------------------------


def measured(qtbot, panel):
    panel.regions.measure_button.click()
    qtbot.waitUntil(lambda: not panel.regions.jobs.busy, timeout=30_000)
    return panel.regions.rows


def add_atlas(viewer, scan, **more):
    labels = np.zeros(SHAPE, np.int32)
    labels[1:8, 2:9, 3:10], labels[11:15, 14:18, 17:22], labels[0, 0] = 1, 5, 9
    features = {"index": [5, 1], "name": ["amygdala", "thalamus, left"]}
    place = {key: getattr(scan, key) for key in ("scale", "translate", "units", "axis_labels")}
    return viewer.add_labels(labels, **place, name="atlas", features=features, **more)


def test_region_table_is_the_librarys_with_the_names_of_the_features(qtbot, panel, viewer, scan):
    layer = add_map(viewer, scan, two_blobs())
    assert not panel.regions.measure_button.isEnabled()
    atlas = add_atlas(viewer, scan)
    panel.threshold.setValue(0.1)
    panel.minimum.setValue(100)  # changes what is shown, not what is measured
    rows = measured(qtbot, panel)
    names = {1: "thalamus, left", 5: "amygdala"}
    assert rows == roi_table(two_blobs(), atlas.data, names, affine=affine_of(layer))
    assert [row.name for row in rows] == ["thalamus, left", "amygdala", ""]
    assert rows[0].share_of_positive_mass == pytest.approx(30.1 / (30.1 + 6.5))
    model = panel.regions.model
    texts = [model.data(model.index(0, c)) for c in range(model.columnCount())]
    assert texts[:2] == ["1", "thalamus, left"]
    panel.regions.table.clicked.emit(model.index(1, 0))
    assert panel.voxel.voxel == (13, 16, 19)
    np.testing.assert_allclose(viewer.dims.point, layer.data_to_world((13, 16, 19)))


def test_labels_on_another_grid_are_brought_onto_the_maps(qtbot, panel, viewer, scan):
    layer = add_map(viewer, scan, two_blobs())
    atlas = add_atlas(viewer, scan)
    expected = measured(qtbot, panel)
    scale = np.array(scan.scale) * (-1, 1, 1)
    start = np.array(scan.data_to_world((SHAPE[0] - 1, 3, 0)))
    viewer.add_labels(
        np.flip(atlas.data, 0)[:, 3:], scale=scale, translate=start, features=atlas.features
    )
    viewer.layers.remove(atlas)
    rows = measured(qtbot, panel)
    known = roi_table(
        layer.data,
        np.where(np.arange(22)[:, None] >= 3, atlas.data, 0),
        {1: "thalamus, left", 5: "amygdala"},
        affine=affine_of(layer),
    )
    assert rows == known
    assert [r for r in rows if r.label == 5] == [r for r in expected if r.label == 5]


def test_exported_table_is_read_back(qtbot, panel, viewer, scan, tmp_path):
    add_map(viewer, scan, two_blobs() - 0.2)
    add_atlas(viewer, scan)
    assert not panel.regions.export_button.isEnabled()
    rows = measured(qtbot, panel)
    assert panel.regions.export_button.isEnabled()
    panel.regions.export(str(tmp_path / "rois.csv"))
    with (tmp_path / "rois.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [int(r["label"]) for r in read] == [row.label for row in rows]
    assert [r["name"] for r in read] == [row.name for row in rows]
    for column in ("mean", "share_of_positive_mass", "share_of_negative_mass", "peak"):
        assert [float(r[column]) for r in read] == [getattr(row, column) for row in rows]
    panel.regions.export(str(tmp_path / "nowhere" / "rois.csv"))
    assert "nowhere" in panel.regions.said.text()


def test_table_goes_when_the_map_is_another(qtbot, panel, viewer, scan):
    layer = add_map(viewer, scan, two_blobs())
    add_atlas(viewer, scan)
    assert measured(qtbot, panel)
    style_overlay(layer, attribution(two_blobs() * 2, make_volume()))
    assert panel.regions.rows == []
    assert not panel.regions.export_button.isEnabled()


def test_an_empty_atlas_is_one_plain_sentence(qtbot, panel, viewer, scan):
    add_map(viewer, scan, two_blobs())
    viewer.add_labels(np.zeros(SHAPE, int))
    assert measured(qtbot, panel) == []
    assert "no region" in panel.regions.said.text()


def test_regions_of_a_sample_are_offered_where_they_are_there(
    qtbot, panel, viewer, scan, tmp_path, monkeypatch
):
    truth = make_volume("RAS", np.diag([1.0, 1.5, 2.0, 1]))
    truth.data[5:8, 5:8, 5:8] = 1
    path = cv.write_volume(truth, tmp_path / "scan_changed.nii.gz")
    monkeypatch.setattr(
        inspect_regions, "sample_regions", lambda layer: path if layer.name == "it" else None
    )
    add_map(viewer, scan, two_blobs())
    assert panel.regions.sample_button.isHidden()
    viewer.layers[-1].name = "it"
    panel.regions.look_at(panel.view)
    assert not panel.regions.sample_button.isHidden()
    panel.regions.sample_button.click()
    qtbot.waitUntil(lambda: not panel.regions.jobs.busy, timeout=30_000)
    (row,) = panel.regions.rows
    assert row.name == "changed by the simulation"
    assert row.volume_mm3 == pytest.approx(27 * 3)
    assert panel.regions.sample_button.isHidden()


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({}, {}),
        ({"index": [3, 8], "name": ["a", "b"]}, {3: "a", 8: "b"}),
        ({"name": ["background", "a", "b"]}, {0: "background", 1: "a", 2: "b"}),
        ({"index": [3, 8], "size": [1.5, 2]}, {}),
        ({"index": [3, 8], "Region": ["a", None], "colour": ["red", "blue"]}, {3: "a"}),
    ],
)
def test_names_are_found_in_the_features(features, expected):
    layer = Labels(np.zeros((2, 2, 2), int))
    layer.features = features
    assert names_of(layer) == expected


def save_atlas(path, volume):
    """Two cubes of FreeSurfer's hippocampi in the axes of a volume's file."""
    labels = np.zeros(volume.shape, np.int16)
    labels[2:9, 3:9, 2:9], labels[12:20, 12:18, 9:17] = 17, 53
    nib.save(nib.Nifti1Image(labels, volume.affine), path)
    return labels


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "SAR"])
def test_an_atlas_from_a_file_lies_on_the_scan_and_names_the_rows(
    qtbot, panel, viewer, tmp_path, orientation
):
    volume = make_volume(orientation)
    volume.data[2:9, 3:9, 2:9] = 0.5
    data, attributes = volume_to_layer(volume)
    scan = viewer.add_image(np.zeros_like(data), **attributes)
    layer = add_map(viewer, scan, data)
    labels = save_atlas(tmp_path / "aseg.nii.gz", volume)
    panel.regions.open_atlas(str(tmp_path / "aseg.nii.gz"))
    qtbot.waitUntil(lambda: bool(panel.regions.rows), timeout=30_000)
    qtbot.waitUntil(lambda: not panel.regions.jobs.busy, timeout=30_000)
    atlas = viewer.layers["aseg"]
    assert panel.regions.labels.layer == atlas
    turned = Volume(labels.astype(np.float32), volume.affine).reoriented("SAR")
    np.testing.assert_array_equal(atlas.data, turned.data)
    for voxel in ((0, 0, 0), (3, 4, 5)):
        np.testing.assert_allclose(atlas.data_to_world(voxel), layer.data_to_world(voxel))
    rows = panel.regions.rows
    assert [row.name for row in rows] == ["Left-Hippocampus", "Right-Hippocampus"]
    assert rows[0].mean == pytest.approx(0.5)
    assert rows[0].share_of_positive_mass == pytest.approx(1)
    np.testing.assert_allclose(atlas.get_color(17)[:3], np.array([220, 216, 20]) / 255, atol=0.01)
    assert panel.regions.said.text() == "2 regions. Names from FreeSurfer's numbers."
    panel.regions.export(str(tmp_path / "rois.csv"))
    assert "Left-Hippocampus" in (tmp_path / "rois.csv").read_text()


def test_names_come_from_the_table_that_is_chosen(qtbot, panel, viewer, scan, tmp_path):
    add_map(viewer, scan, two_blobs())
    atlas = add_atlas(viewer, scan)
    before = atlas.get_color(9)
    (tmp_path / "lut.txt").write_text("1 one 255 0 0 0\n5 five 0 0 255 0\n7 seven 0 9 0 0\n")
    panel.regions.take_names(str(tmp_path / "lut.txt"))
    qtbot.waitUntil(lambda: not panel.regions.jobs.busy, timeout=30_000)
    assert {row.label: row.name for row in panel.regions.rows} == {1: "one", 5: "five", 9: ""}
    assert panel.regions.said.text() == "3 regions. Names from lut.txt for 2 regions."
    np.testing.assert_allclose(atlas.get_color(1), (1, 0, 0, 1))
    np.testing.assert_allclose(atlas.get_color(9), before, atol=1e-6)
    (tmp_path / "other.txt").write_text("4000 elsewhere\n")
    panel.regions.take_names(str(tmp_path / "other.txt"))
    assert "none of the labels" in panel.regions.said.text()
    assert names_of(atlas) == {1: "one", 5: "five"}


def test_a_file_that_is_no_atlas_is_one_plain_sentence(qtbot, panel, viewer, scan, tmp_path):
    panel.regions.open_atlas("nowhere.nii.gz")
    assert "nowhere" not in panel.regions.said.text() or panel.regions.jobs.busy
    qtbot.waitUntil(lambda: "nowhere" in panel.regions.said.text(), timeout=30_000)
    scan_file = cv.write_volume(Volume(two_blobs()), tmp_path / "t1.nii.gz")
    panel.regions.open_atlas(str(scan_file))
    qtbot.waitUntil(lambda: "does not hold labels" in panel.regions.said.text(), timeout=30_000)
    assert list(viewer.layers) == [scan]
    viewer.layers.clear()
    panel.regions.open_atlas(str(scan_file))
    assert "First open the scan" in panel.regions.said.text()


def test_an_atlas_is_laid_on_a_scan_before_there_is_a_map(qtbot, panel, viewer, tmp_path):
    volume = make_volume("LPI")
    data, attributes = volume_to_layer(volume)
    scan = viewer.add_image(data, **attributes)
    save_atlas(tmp_path / "atlas.nii.gz", volume)
    (tmp_path / "atlas.tsv").write_text("index\tname\n17\tfirst\n53\tsecond\n")
    panel.regions.open_atlas(str(tmp_path / "atlas.nii.gz"))
    qtbot.waitUntil(lambda: "atlas" in viewer.layers, timeout=30_000)
    assert panel.regions.said.text() == "Names from atlas.tsv."
    assert names_of(viewer.layers["atlas"]) == {17: "first", 53: "second"}
    add_map(viewer, scan, data)
    assert [row.name for row in measured(qtbot, panel)] == ["first", "second"]


# --- layers come and go ------------------------------------------------------------------


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


def test_panel_needs_no_torch():
    code = "import sys, napari_cnnvis._napari.inspect.panel; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
