"""What a layer says of the map that it shows, and how a map looks."""

from dataclasses import replace

import numpy as np
import pytest
from napari.layers import Image
from vispy.visuals.axis import _get_ticks_talbot

from napari_cnnvis._napari.layers.maps import (
    colormap,
    contrast_limits,
    keep_whole,
    map_of,
    overlay_arguments,
    style_overlay,
    whole_map,
)
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.models.layouts import LayerGrid
from napari_cnnvis.scan.volume import Volume


def attribution(data, **provenance):
    volume = Volume(np.zeros(data.shape))
    entries = {"method": "Grad-CAM", "class_name": "atrophy", "layer": "relu4"} | provenance
    return Attribution(data.astype(np.float32), volume.affine, entries, volume)


def test_positive_map_is_transparent_at_zero_and_rises():
    alpha = colormap(signed=False).colors[:, 3]
    assert alpha[0] == 0
    assert (np.diff(alpha) >= 0).all()
    assert alpha[-1] > 0.8


def test_signed_map_is_transparent_in_the_middle():
    map_ = colormap(signed=True)
    assert map_.map(np.array([0.5]))[0, 3] < 0.02
    assert map_.map(np.array([0.0, 1.0]))[:, 3].min() > 0.8


def test_signed_limits_are_symmetric():
    data = np.linspace(-1, 3, 1001).reshape(7, 11, 13)
    low, high = contrast_limits(data)
    assert low == -high == -3


@pytest.mark.parametrize(("peak", "limit"), [(0.99, 1), (1.01, 1.5), (0.0043, 0.005), (20, 20)])
def test_limits_end_at_a_legible_number(peak, limit):
    assert contrast_limits(np.full((3, 3, 3), peak))[1] == pytest.approx(limit)


@pytest.mark.parametrize("low", [0, -1])
@pytest.mark.parametrize("peak", np.geomspace(0.011, 0.99, 25))
def test_colour_bar_labels_values_beyond_zero(low, peak):
    limits = contrast_limits(np.array([low * peak, peak]))
    ticks = _get_ticks_talbot(*limits, 2, 2)  # the rule of napari's colour bar
    labelled = ticks[np.abs(ticks) <= limits[1] * (1 + 1e-6)]
    assert labelled.max() >= 0.6 * limits[1]
    assert (labelled.min() <= 0.6 * limits[0]) if low else (labelled.min() == 0)


def test_limits_of_an_empty_map():
    assert contrast_limits(np.zeros((2, 2, 2))) == (0.0, 1.0)


def test_last_axis_of_three_is_not_taken_for_colour():
    scan = Image(np.zeros((4, 5, 3)), rgb=False)
    map_ = attribution(np.random.default_rng(0).random((4, 5, 3)))
    layer = Image(map_.data, **overlay_arguments(map_, scan))
    assert layer.ndim == 3
    np.testing.assert_array_equal(layer.data, map_.data)


def test_overlay_is_named_after_method_class_and_layer_and_keeps_its_provenance():
    scan = Image(np.zeros((4, 5, 6)))
    map_ = attribution(np.ones((4, 5, 6)))
    layer = Image(map_.data, **overlay_arguments(map_, scan))
    assert layer.name == "Grad-CAM · atrophy · relu4"
    assert map_of(layer).provenance == {**map_.provenance, "partial": False}


def test_overlay_can_show_another_map_in_place():
    scan = Image(np.zeros((4, 5, 6)))
    first = attribution(np.ones((4, 5, 6)))
    layer = Image(first.data, **overlay_arguments(first, scan))
    second = attribution(np.linspace(-2, 1, 120).reshape(4, 5, 6), layer="conv1a")
    style_overlay(layer, second)
    np.testing.assert_array_equal(layer.data, second.data)
    assert layer.name.endswith("conv1a")
    assert layer.contrast_limits[0] == -layer.contrast_limits[1]


def test_map_says_what_its_layer_shows():
    scan = Image(np.zeros((4, 5, 6)))
    made = attribution(np.linspace(0, 1, 120).reshape(4, 5, 6), scan={"name": "it", "source": "f"})
    layer = Image(made.data, **overlay_arguments(made, scan))
    map_ = map_of(layer)
    assert map_.values is made.data
    assert map_.limits == tuple(layer.contrast_limits)
    assert map_.scan == {"name": "it", "source": "f"}
    assert (map_.cells, map_.scores, map_.hierarchy, map_.trust) == (None,) * 4
    layer.contrast_limits = (0.25, 0.5)
    assert map_of(layer).limits == (0.25, 0.5)


def test_hidden_values_are_those_of_the_map_and_of_what_is_saved():
    scan = Image(np.zeros((4, 5, 6)))
    made = attribution(np.ones((4, 5, 6)))
    layer = Image(np.zeros((4, 5, 6)), **overlay_arguments(made, scan))
    keep_whole(layer, made.data)
    assert map_of(layer).values is made.data
    data, attributes, _ = layer.as_layer_data_tuple()
    assert whole_map(data, attributes) is made.data
    layer.data = np.zeros((2, 5, 6))  # another one: what was kept is not of it
    assert map_of(layer).values is layer.data
    keep_whole(layer, None)
    assert whole_map(data, layer) is data


CELLS = {
    "native": np.ones((2, 3, 4), np.float32),
    "nearest": lambda: np.ones((4, 5, 6)),
    "cell_grid": {
        "affine": np.diag([2, 2, 2, 1]),
        "shape": (4, 5, 6),
        "grid": LayerGrid((1.0,) * 3, (2.0,) * 3),
        "alignment": "receptive field",
    },
}


def with_cells(**changed):
    made = replace(attribution(np.ones((4, 5, 6))), **CELLS)
    grid = {key: changed.pop(key) for key in list(changed) if key in made.cell_grid}
    made = replace(made, **changed, cell_grid={**made.cell_grid, **grid})
    return map_of(Image(made.data, **overlay_arguments(made, Image(made.data))))


def test_cells_are_kept_as_the_method_gave_them():
    cells = with_cells().cells
    assert cells.values is CELLS["native"]
    assert cells.nearest is CELLS["nearest"]
    assert cells.grid is CELLS["cell_grid"]["grid"]
    assert (cells.shape, cells.alignment) == ((4, 5, 6), "receptive field")
    np.testing.assert_array_equal(cells.affine, np.diag([2, 2, 2, 1]))
    assert with_cells(native=None).cells is None


@pytest.mark.parametrize(
    "damaged",
    [
        *({"native": "x"}, {"native": np.ones(3)}, {"nearest": 3}, {"affine": np.zeros((4, 4))}),
        *({"affine": [[1], [1, 2]]}, {"shape": 3}, {"shape": ("a", "b", "c")}, {"grid": "x"}),
        *({"alignment": None}, {"regions": {"a": 1}}),
    ],
    ids=str,
)
def test_damaged_parts_make_it_no_map(damaged):
    assert with_cells(**damaged) is None
