import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage

from napari_cnnvis.errors import Cancelled
from napari_cnnvis.ucm.hierarchy import Hierarchy
from napari_cnnvis.ucm.merging import join_tiny, merge_tree
from napari_cnnvis.ucm.region_graph import RegionGraph


def ward(graph):
    a, b = graph.pairs
    v, w = graph.sizes[a], graph.sizes[b]
    return v * w / (v + w) * ((graph.means[:, a] - graph.means[:, b]) ** 2).sum(0)


def graph_of(sizes, values, pairs):
    pairs = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    ones = np.ones(pairs.shape[1])
    sizes = np.asarray(sizes, float)
    return RegionGraph(sizes, np.atleast_2d(values) * sizes, pairs, ones, ones)


def all_pairs(n):
    return [(a, b) for a in range(n) for b in range(a + 1, n)]


@given(st.integers(0, 999), st.integers(2, 30))
def test_where_all_are_neighbours_it_is_scipys_ward(seed, n):
    points = np.random.default_rng(seed).random((n, 3))
    parents, altitudes = merge_tree(graph_of(np.ones(n), points.T, all_pairs(n)), ward)
    expected = linkage(points, "ward")
    np.testing.assert_allclose(altitudes[n:], expected[:, 2] / np.sqrt(2), rtol=1e-6)
    leaves = np.arange(1, n + 1, dtype=np.int32).reshape(n, 1, 1)
    tree = Hierarchy.from_tree(leaves, parents, altitudes, [n])
    for count in {1, 2, n // 2 or 1, n}:
        ours = tree.cut(count).ravel()
        theirs = fcluster(expected, count, "maxclust")
        assert len(set(zip(ours.tolist(), theirs.tolist(), strict=True))) == count


@given(st.integers(0, 999), st.integers(1, 60))
def test_each_merge_joins_neighbours_and_altitudes_rise(seed, n):
    rng = np.random.default_rng(seed)
    chain = [(i, i + 1) for i in range(n - 1)]
    extra = [tuple(sorted(p)) for p in rng.integers(0, n, (n, 2)).tolist() if p[0] != p[1]]
    pairs = sorted({*chain, *extra})
    values = rng.integers(0, 4, n) if seed % 2 else rng.random(n)  # with ties, and without
    parents, altitudes = merge_tree(graph_of(rng.integers(1, 9, n), values, pairs), ward)
    assert len(parents) == 2 * n - 1
    assert (np.bincount(parents[:-1], minlength=2 * n - 1)[n:] == 2).all() or n == 1
    assert (parents[:-1] > np.arange(2 * n - 2)).all()
    assert (np.diff(altitudes[n:]) >= 0).all()
    members = [{i} for i in range(n)]
    for node in range(n, 2 * n - 1):
        a, b = np.flatnonzero(parents[: 2 * n - 2] == node)
        assert any((i in members[a]) != (j in members[a]) for i, j in pairs if {i, j} & members[b])
        members.append(members[a] | members[b])


def test_equal_costs_do_not_merge_in_order_of_their_numbers():
    n = 64
    graph = graph_of(np.ones(n), np.zeros(n), [(i, i + 1) for i in range(n - 1)])
    parents, _ = merge_tree(graph, lambda g: g.sizes[g.pairs].min(axis=0))
    depth = np.zeros(2 * n - 1, int)
    for node in range(2 * n - 3, -1, -1):
        depth[node] = depth[parents[node]] + 1
    assert depth.max() < n / 2


def test_separate_parts_keep_separate_tops():
    parents, _ = merge_tree(graph_of([1, 1, 1, 1], [0, 0, 1, 1], [(0, 1), (2, 3)]), ward)
    assert parents[0] == parents[1] != parents[2] == parents[3]
    assert parents[4:].tolist() == [4, 5]


def test_cancelled():
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled, match="cancelled"):
        merge_tree(graph_of([1, 1], [0, 1], [(0, 1)]), ward, cancel)


@given(st.integers(0, 999), st.floats(0, 40))
def test_no_region_is_tiny_unless_it_is_the_only_one(seed, smallest):
    rng = np.random.default_rng(seed)
    n = 25
    pairs = [(i, i + 1) for i in range(n - 1)]
    graph = graph_of(rng.integers(1, 9, n), rng.random(n), pairs)
    region, joined = join_tiny(graph, ward, smallest)
    assert joined.n_regions == 1 or joined.sizes.min() >= smallest
    np.testing.assert_array_equal(np.unique(region), np.arange(joined.n_regions))
    np.testing.assert_allclose(np.bincount(region, graph.sizes), joined.sizes)
    assert (np.diff(region) != 0).sum() == joined.n_regions - 1  # runs of the chain: connected


def test_a_tiny_region_goes_to_the_neighbour_that_costs_least():
    graph = graph_of([10, 1, 10], [0.0, 0.9, 1.0], [(0, 1), (1, 2)])
    region, joined = join_tiny(graph, ward, 2)
    assert region.tolist() == [0, 1, 1]
    assert joined.sizes.tolist() == [10, 11]


def test_a_tiny_region_without_neighbours_stays():
    graph = graph_of([10, 10, 1], [0.0, 1.0, 5.0], [(0, 1)])
    region, joined = join_tiny(graph, ward, 2)
    assert region.tolist() == [0, 1, 2]
    assert joined.sizes.tolist() == [10, 10, 1]
