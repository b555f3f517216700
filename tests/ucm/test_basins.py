import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from napari_cnnvis.ucm.basins import basins


def flow_by_hand(data, head):
    """For each voxel the face neighbour that is most like it, the first of several."""
    steps = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    flow = {}
    for voxel in map(tuple, np.argwhere(head)):
        best, least = voxel, np.inf
        for step in steps:
            beside = tuple(np.add(voxel, step))
            if min(beside) < 0 or (np.array(beside) >= head.shape).any() or not head[beside]:
                continue
            difference = abs(np.float32(data[beside]) - np.float32(data[voxel]))
            if difference < least:
                best, least = beside, difference
        flow[voxel] = best
    return flow


@given(seed=st.integers(0, 999), values=st.sampled_from([3, 1000]))
def test_each_voxel_is_in_the_basin_that_it_flows_to(seed, values):
    rng = np.random.default_rng(seed)
    data = rng.integers(0, values, (5, 4, 6)).astype(np.float32)
    head = rng.random(data.shape) < 0.8
    labels = basins(data, head)
    np.testing.assert_array_equal(labels > 0, head)
    joined = {voxel: {voxel} for voxel in map(tuple, np.argwhere(head))}
    for voxel, towards in flow_by_hand(data, head).items():
        both = joined[voxel] | joined[towards]
        for member in both:
            joined[member] = both
    for voxel, members in joined.items():
        assert {tuple(v) for v in np.argwhere(labels == labels[voxel])} == members


def test_labels_are_numbered_without_gaps_and_connected():
    data = np.random.default_rng(0).random((12, 12, 12)).astype(np.float32)
    labels = basins(data, np.ones(data.shape, bool))
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(np.unique(labels), np.arange(1, labels.max() + 1))
    for label in range(1, labels.max() + 1):
        assert ndimage.label(labels == label)[1] == 1


def test_a_part_of_a_larger_array_gives_the_same():
    data = np.random.default_rng(0).random((14, 15, 16)).astype(np.float32)
    box = np.s_[2:9, 3:12, 1:13]
    head = data[box] > 0.1
    np.testing.assert_array_equal(basins(data[box], head), basins(data[box].copy(), head.copy()))


def test_a_step_is_never_crossed():
    data = np.random.default_rng(0).random((16, 8, 8)).astype(np.float32)
    data[8:] += 10
    labels = basins(data, np.ones(data.shape, bool))
    assert not np.intersect1d(labels[:8], labels[8:]).size


@pytest.mark.parametrize("count", [0, 1])
def test_a_head_of_hardly_any_voxels(count):
    head = np.zeros((3, 3, 3), bool)
    head.ravel()[:count] = True
    assert basins(np.zeros(head.shape, np.float32), head).sum() == count
