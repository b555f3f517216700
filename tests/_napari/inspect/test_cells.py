"""Native cells of a map, and the box that a cell sees."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Labels

from napari_cnnvis._napari.inspect.cells import Field, NativeCells
from napari_cnnvis._napari.inspect.marks import FIELD_NAME, outline
from napari_cnnvis._napari.layers.maps import mark_as_map, style_overlay
from napari_cnnvis._napari.layers.place import affine_of
from napari_cnnvis._napari.layers.scans import volume_to_layer
from napari_cnnvis.models.layouts import LayerGrid
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.volume import Volume

from .made_maps import (
    SHAPE,
    add_map,
    attribution,
    click,
    make_volume,
    native_of,
    two_blobs,
    ucm_map,
)

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
        assert layer.data[voxel] == (0 if cell is None else native["native"][cell])
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
    little = {key: native[key] for key in ("native", "nearest")}
    mark_as_map(layer, attribution(two_blobs(), Volume(two_blobs()), cells=little))
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
    del other["cell_grid"]
    style_overlay(layer, dataclasses.replace(made, **other))
    assert set(np.unique(layer.data)) == set(np.unique(other["native"]))
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
    to_input = np.linalg.inv(native["cell_grid"]["affine"]) @ affine_of(layer)
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
        sides = np.multiply(
            grid.size, np.linalg.norm(native["cell_grid"]["affine"][:3, :3], axis=0)
        )
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
