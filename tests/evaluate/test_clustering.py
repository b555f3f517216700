"""Clusters of a map above a threshold."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_cnnvis.errors import MethodError
from napari_cnnvis.evaluate.clustering import cluster_mask, clusters

EIGHTEEN = [s for s in itertools.product((-1, 0, 1), repeat=3) if 0 < sum(map(abs, s)) < 3]
AFFINE = np.array([[0, -1.2, 0, 7], [1.9, 0, 0, -3], [0, 0, 2.8, 11], [0, 0, 0, 1.0]])


def components(chosen):
    """Connected sets of voxels, found by walking from voxel to voxel."""
    left, found = {tuple(v) for v in np.argwhere(chosen).tolist()}, []
    while left:
        todo = [left.pop()]
        group = set(todo)
        while todo:
            at = todo.pop()
            around = {tuple(a + s for a, s in zip(at, step, strict=True)) for step in EIGHTEEN}
            todo += around & left
            group |= around & left
            left -= around
        found.append(sorted(group))
    return found


def test_two_blocks_with_their_volume_peak_and_centroid():
    map = np.zeros((12, 10, 8), np.float32)
    map[1:4, 1:3, 1:3] = 2  # 12 voxels
    map[8:10, 5:7, 5] = 3  # 4 voxels
    map[2, 2, 2], map[9, 5, 5] = 5, 7
    mask, found = clusters(map, 1.5, (1.0, 2.0, 3.0))
    np.testing.assert_array_equal(mask, map > 1.5)
    assert [c.n_voxels for c in found] == [12, 4]
    assert [c.volume_mm3 for c in found] == [72, 24]
    assert [(c.peak, c.peak_voxel) for c in found] == [(5, (2, 2, 2)), (7, (9, 5, 5))]
    np.testing.assert_allclose([c.centroid for c in found], [(2, 3, 4.5), (8.5, 11, 15)])


def test_centroid_lies_where_the_affine_says():
    map = np.zeros((5, 6, 7))
    map[1:3, 2, 3:5] = 1
    (found,) = clusters(map, 0.5, (1.9, 1.2, 2.8), affine=AFFINE)[1]
    np.testing.assert_allclose(found.centroid, (AFFINE @ [1.5, 2, 3.5, 1])[:3])


def test_edges_connect_and_corners_do_not():
    map = np.zeros((4, 4, 4))
    map[1, 1, 1] = map[1, 2, 2] = 1
    assert len(clusters(map, 0, (1, 1, 1))[1]) == 1
    map[1, 2, 2], map[2, 2, 2] = 0, 1
    assert len(clusters(map, 0, (1, 1, 1))[1]) == 2


def test_voxels_at_the_threshold_are_out_and_a_cluster_of_the_minimum_is_in():
    map = np.zeros((4, 4, 4))
    map[0, 0, :3] = 0.3
    assert clusters(map, 0.3, (1, 1, 1))[1] == []
    spacing = (0.7, 0.9, 1.1)  # 3 voxels are 2.079 mm3, not quite in floats
    assert len(clusters(map, 0.2, spacing, minimum_mm3=2.079)[1]) == 1
    mask, found = clusters(map, 0.2, spacing, minimum_mm3=2.08)
    assert found == []
    assert not mask.any()


def test_signed_clusters_do_not_join():
    map = np.zeros((6, 3, 3))
    map[1:3, 1, 1], map[3:6, 1, 1] = 2, -4
    mask, found = clusters(map, 1, (1, 1, 1), signed=True)
    assert [(c.n_voxels, c.peak) for c in found] == [(3, -4), (2, 2)]
    assert mask.sum() == 5
    assert clusters(map, 1, (1, 1, 1))[0].sum() == 2


def test_errors_are_plain(plain):
    with pytest.raises(MethodError) as error:
        clusters(np.zeros((3, 3)), 1, (1, 1, 1))
    plain(error.value, "3D")
    for threshold in (-1, np.nan):
        with pytest.raises(MethodError) as error:
            clusters(np.zeros((3, 3, 3)), threshold, (1, 1, 1))
        plain(error.value, "threshold")


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6),
        elements=st.integers(-2, 2).map(float),
    ),
    st.integers(0, 5),
)
def test_clusters_are_those_found_voxel_by_voxel(map, least):
    spacing, voxel = (1.0, 2.0, 0.5), 1.0
    mask, found = clusters(map, 0, spacing, least * voxel, signed=True, affine=AFFINE)
    groups = components(map > 0) + components(map < 0)
    kept = [g for g in groups if len(g) >= least]
    expected = np.zeros(map.shape, bool)
    for group in kept:
        expected[tuple(np.array(group).T)] = True
    np.testing.assert_array_equal(mask, expected)
    assert [c.n_voxels for c in found] == sorted(map_len(kept), reverse=True)
    by_peak = {c.peak_voxel: c for c in found}
    for group in kept:
        values = np.array([map[v] for v in group])
        strongest = group[int(np.abs(values).argmax())]
        cluster = by_peak[strongest]
        assert cluster.peak == map[strongest]
        assert cluster.volume_mm3 == len(group) * voxel
        centre = (AFFINE @ [*np.mean(group, axis=0), 1])[:3]
        np.testing.assert_allclose(cluster.centroid, centre)
    same, left, of = cluster_mask(map, 0, spacing, least * voxel, signed=True)
    np.testing.assert_array_equal(same, mask)
    assert (left, of) == (len(kept), len(groups))


def map_len(groups):
    return [len(group) for group in groups]
