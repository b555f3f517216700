"""Labels layers and contours as regions."""

import dataclasses

import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_cnnvis._napari.layers.regions import (
    contour_arguments,
    fits_shape,
    hierarchy_maker,
    is_labels,
    labels_arguments,
    regions_of,
)
from napari_cnnvis._napari.widgets.layer_picker import is_scan
from napari_cnnvis.ucm.hierarchy import Hierarchy

SHAPE = (4, 5, 6)


@pytest.fixture
def hierarchy():
    labels = np.arange(120).reshape(SHAPE) // 10 + 1
    return Hierarchy.from_levels([labels, labels // 3])


def test_labels_of_a_hierarchy_give_it_back(hierarchy):
    layer = Labels(hierarchy.cut(6), **labels_arguments(hierarchy, {}, "cut"))
    regions = regions_of(layer)
    assert regions.hierarchy is hierarchy
    assert not regions.contours
    assert hierarchy_maker(layer)() is hierarchy
    assert fits_shape(layer, SHAPE)
    assert not fits_shape(layer, SHAPE[::-1])
    with pytest.raises(dataclasses.FrozenInstanceError):
        regions.hierarchy = None


def test_labels_of_another_shape_are_regions_of_one_level(hierarchy):
    layer = Labels(hierarchy.cut(6)[1:], **labels_arguments(hierarchy, {}, "cropped"))
    assert regions_of(layer).hierarchy is None
    np.testing.assert_array_equal(hierarchy_maker(layer)().leaves > 0, layer.data > 0)


def test_contours_are_regions_but_neither_labels_nor_a_scan():
    contours = np.random.default_rng(0).random(SHAPE)
    layer = Image(contours, **contour_arguments(contours, {}, "contours"))
    assert regions_of(layer).contours
    assert regions_of(layer).names == {}
    assert not is_labels(layer)
    assert not is_scan(layer)


def test_only_3d_labels_of_one_resolution_are_regions():
    assert is_labels(Labels(np.ones(SHAPE, int)))
    assert not is_labels(Labels(np.ones((4, 5), int)))
    assert not is_labels(Labels([np.ones((8, 8, 8), int), np.ones((4, 4, 4), int)]))
    assert not is_labels(Image(np.ones(SHAPE)))


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
    assert regions_of(layer).names == expected
