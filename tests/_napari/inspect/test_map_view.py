"""Threshold, opacity and clusters of a map in the panel "Inspect"."""

import time

import napari.utils.colormaps
import numpy as np
import pytest
from napari.layers import Layer

from napari_cnnvis._napari.layers.maps import map_of, style_overlay
from napari_cnnvis.evaluate.clustering import clusters

from .made_maps import add_map, attribution, make_volume, two_blobs


def alpha(layer, values):
    """How opaque values are shown."""
    low, high = layer.contrast_limits
    place = (np.asarray(values, float) - low) / (high - low)
    shown = layer.colormap.map(place.clip(0, 1))[:, 3]
    if layer.colormap.low_color is not None:
        shown[place < 0] = layer.colormap.low_color[3]
    return shown


# --- threshold and opacity ------------------------------------------------------------


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
        assert min(spent) < 0.1  # the others may have waited for another process


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
    assert map_of(layer).values is raw
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
    assert map_of(layer).values is other.data
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


def test_duplicate_of_a_filtered_map_has_all_its_values_again(panel, viewer, scan):
    layer = add_map(viewer, scan, two_blobs())
    panel.minimum.setValue(100)
    viewer.add_layer(copy := Layer.create(*layer.as_layer_data_tuple()))
    panel.map.choose(copy)
    np.testing.assert_array_equal(copy.data, two_blobs())
    assert map_of(copy).values is copy.data
