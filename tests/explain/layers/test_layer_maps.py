import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from torch.nn import functional as F

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.layers.layer_maps import interpolate
from napari_cnnvis.explain.methods.grad_cam import grad_cam
from napari_cnnvis.models.layouts import LayerGrid

small_shapes = st.tuples(*[st.integers(1, 6)] * 3)
shapes = st.tuples(*[st.integers(1, 19)] * 3)


@given(
    cells=small_shapes.flatmap(
        lambda s: hnp.arrays(np.float32, s, elements=st.floats(-10, 10, width=32))
    ),
    shape=shapes,
)
def test_without_a_grid_equals_torch(cells, shape):
    expected = F.interpolate(
        torch.from_numpy(cells)[None, None], shape, mode="trilinear", align_corners=False
    )
    result = interpolate(cells, shape)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected[0, 0].numpy(), atol=1e-4)


def test_same_shape_changes_nothing():
    cells = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    np.testing.assert_array_equal(interpolate(cells, cells.shape), cells)


grids = st.builds(
    LayerGrid,
    start=st.tuples(*[st.floats(-3, 5)] * 3),
    step=st.tuples(*[st.floats(0.5, 4)] * 3),
)


@given(grid=grids, cells=small_shapes, shape=shapes, slopes=st.tuples(*[st.floats(-2, 2)] * 3))
def test_a_ramp_on_the_cells_is_that_ramp_on_the_voxels_between_them(grid, cells, shape, slopes):
    def ramp(*positions):
        return sum(s * p for s, p in zip(slopes, np.ix_(*positions), strict=True))

    places = [a + b * np.arange(n) for a, b, n in zip(grid.start, grid.step, cells, strict=True)]
    result = interpolate(ramp(*places), shape, grid)
    between = [
        np.flatnonzero((np.arange(n) >= p[0]) & (np.arange(n) <= p[-1]))
        for n, p in zip(shape, places, strict=True)
    ]
    assert result.shape == shape
    np.testing.assert_allclose(result[np.ix_(*between)], ramp(*between), atol=1e-3)


@given(grid=grids, cells=small_shapes, shape=shapes, seed=st.integers(0, 99))
def test_beyond_the_outermost_cells_it_falls_to_0_within_one_cell(grid, cells, shape, seed):
    values = np.random.default_rng(seed).normal(size=cells).astype(np.float32)
    positions = [
        (np.arange(n) - a) / b for n, a, b in zip(shape, grid.start, grid.step, strict=True)
    ]
    padded = np.pad(values, 1)
    expected = ndimage.map_coordinates(
        padded, np.meshgrid(*[p + 1 for p in positions], indexing="ij"), order=1, cval=0
    )
    np.testing.assert_allclose(interpolate(values, shape, grid), expected, atol=1e-4)


def test_cells_keep_their_values_where_they_are_centred():
    cells = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    result = interpolate(cells, (12, 15, 9), LayerGrid((2.0, 1.0, 3.0), (4.0, 3.0, 5.0)))
    np.testing.assert_array_equal(result[2:11:4, 1:11:3, 3:9:5], cells)


def test_layers_come_in_forward_order(cam_model, volume_of):
    maps = grad_cam(cam_model, volume_of((12, 12, 12)), 0, layer="all")
    assert list(maps) == cam_model.target_layers
    assert len(maps) == len(cam_model.target_layers)
    assert maps["conv1b"].provenance["layer"] == "conv1b"


def test_unknown_layer(cam_model, volume_of):
    with pytest.raises(KeyError):
        grad_cam(cam_model, volume_of((12, 12, 12)), 0, layer="all")["conv99"]


@pytest.mark.parametrize("layer", ["conv1a", "conv1c", "all"])
def test_padded_layers_need_no_note(cam_model, volume_of, layer):
    found = grad_cam(cam_model, volume_of((12, 12, 12)), 0, layer=layer)
    maps = found.values() if layer == "all" else [found]
    assert not any("Spread evenly" in note for a in maps for note in a.notes)


@pytest.fixture
def unpadded(wrap, gap_net, delta, volume_of):
    model = wrap(gap_net([delta(9)], 1))
    return grad_cam(model, volume_of((14, 14, 14)), 0, layer="all", relu=False)


def test_stretching_an_unpadded_layer_is_noted(unpadded):
    # 6 cells over 14 voxels begin at 2/3, their receptive fields at 4
    assert "lie up to 3 voxels from" in unpadded["0"].notes[0]
    assert unpadded.of(alignment="receptive field")["0"].notes == ()


def test_another_alignment_puts_the_same_cells_elsewhere(unpadded):
    moved = unpadded.of(alignment="receptive field")
    np.testing.assert_array_equal(moved["0"].native, unpadded["0"].native)
    np.testing.assert_allclose(moved["0"].data[4:10, 4:10, 4:10], moved["0"].native, rtol=1e-5)
    assert moved["0"].provenance["alignment"] == "receptive field"
    assert unpadded["0"].provenance["alignment"] == "stretch"


def test_unknown_alignment(unpadded):
    with pytest.raises(MethodError, match="stretch, receptive field"):
        unpadded.of(alignment="middle")
