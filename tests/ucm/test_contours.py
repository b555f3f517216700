import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from napari_cnnvis.ucm.hierarchy import Hierarchy

drawn = given(st.from_type(Hierarchy))


def chain_of_leaf(hierarchy, leaf):
    chain = [leaf]
    while hierarchy.parents[chain[-1]] != chain[-1]:
        chain.append(hierarchy.parents[chain[-1]])
    return chain


def by_definition(hierarchy):
    leaves = hierarchy.leaves
    contours = np.zeros(leaves.shape)
    for place in np.ndindex(leaves.shape):
        for axis in range(3):
            beside = list(place)
            beside[axis] += 1
            if beside[axis] == leaves.shape[axis]:
                continue
            a, b = leaves[place] - 1, leaves[tuple(beside)] - 1
            if min(a, b) < 0:
                continue
            other = chain_of_leaf(hierarchy, b)
            common = [node for node in chain_of_leaf(hierarchy, a) if node in other]
            height = hierarchy.altitudes[common[0]] if common else hierarchy.altitudes.max() + 1
            contours[place] = max(contours[place], height)
    return contours


@drawn
def test_contours_are_the_altitudes_at_which_neighbours_merge(hierarchy):
    contours, expected = hierarchy.contour_map(), by_definition(hierarchy)
    assert contours.dtype == np.float32
    np.testing.assert_allclose(contours, expected, rtol=1e-6)
    assert (contours >= expected).all()


def assert_closed(hierarchy, contours, threshold):
    components, count = ndimage.label((contours <= threshold) & (hierarchy.leaves > 0))
    pairs = np.unique(
        np.stack([components, hierarchy.cut(altitude=threshold)])[:, components > 0].T, axis=0
    )
    assert len(pairs) == count


@drawn
def test_contours_are_closed_at_every_threshold(hierarchy):
    contours = hierarchy.contour_map()
    heights = np.unique(hierarchy.altitudes)
    rounded = heights.astype(np.float32).astype(float)
    between = (heights[1:] + heights[:-1]) / 2
    just_below = np.nextafter(heights, -1)
    for threshold in [*heights, *rounded, *between, *just_below]:
        assert_closed(hierarchy, contours, min(threshold, heights[-1]))


def test_altitudes_that_float32_rounds_down_stay_closed():
    leaves = np.arange(1, 4, dtype=np.int32).reshape(3, 1, 1)
    low, high = 1.0, 1.0 + 1e-9
    parents, altitudes = np.array([3, 3, 4, 4, 4]), np.array([0, 0, 0, low, high])
    hierarchy = Hierarchy.from_tree(leaves, parents, altitudes, [1])
    assert hierarchy.cut(altitude=low).max() == 2
    assert_closed(hierarchy, hierarchy.contour_map(), low)


def test_contours_are_one_voxel_thick():
    labels = np.zeros((6, 3, 3), int)
    labels[3:] = 1
    contours = Hierarchy.from_levels([labels, labels * 0]).contour_map()
    assert (contours[2] == 1).all()
    assert not contours[[0, 1, 3, 4, 5]].any()


@drawn
def test_background_and_the_inside_of_leaves_are_zero(hierarchy):
    contours = hierarchy.contour_map()
    assert not contours[hierarchy.leaves == 0].any()
    whole = Hierarchy.from_levels([np.ones((3, 3, 3), int)])
    assert not whole.contour_map().any()


def test_regions_that_never_merge_are_parted_above_all_others():
    labels = np.arange(8).reshape(2, 2, 2)
    hierarchy = Hierarchy.from_levels([labels, labels // 4])
    contours = hierarchy.contour_map()
    assert (contours[0] == 2).all()
    assert contours[1].max() == 1
    assert_closed(hierarchy, contours, 1)


def test_an_atlas_has_contours_too():
    labels = np.array([[[0, 1, 1, 2, 2, 0]]])
    hierarchy = Hierarchy.from_levels([labels], background=0)
    assert hierarchy.contour_map().tolist() == [[[0, 0, 1, 0, 0, 0]]]


@pytest.mark.parametrize("threshold", [0, 3, 16])
def test_contours_of_the_reference_are_closed(shared_data, threshold):
    hierarchy = Hierarchy.read(shared_data / "reference_levels.npz")
    assert_closed(hierarchy, hierarchy.contour_map(), threshold)
