"""Merge neighbouring regions: tiny ones first, then pair by pair up to one region."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_cnnvis.progress import stop_if_cancelled
from napari_cnnvis.ucm.region_graph import RegionGraph

__all__ = ["MergeCost", "join_tiny", "merge_tree"]

#: what joining each neighbouring pair of a graph costs, shape (m,)
MergeCost = Callable[[RegionGraph], np.ndarray]


def join_tiny(
    graph: RegionGraph, cost: MergeCost, smallest: float
) -> tuple[np.ndarray, RegionGraph]:
    """Join every region below `smallest` mm3 to the neighbour that costs least, until none that has
    a neighbour is left.

    Returns
    -------
    region : array, int64, shape (n,)
        The new number of each region, 0 .. m - 1.
    graph : RegionGraph
        That of the m regions.
    """
    region = np.arange(graph.n_regions)
    while graph.pairs.size:
        tiny = graph.sizes < smallest
        if not tiny.any():
            break
        a, b = graph.pairs
        weight = cost(graph)
        best = _least(graph, weight)
        chosen = (tiny[a] & (weight == best[a])) | (tiny[b] & (weight == best[b]))
        if not chosen.any():  # what is tiny still has no neighbour
            break
        n, goes_to = _components(graph.n_regions, a[chosen], b[chosen])
        region = goes_to[region]
        graph = graph.joined(goes_to, n)
    return region, graph


def merge_tree(
    graph: RegionGraph, cost: MergeCost, cancel: threading.Event | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The tree of pairwise merges of a connected graph, cheapest neighbours first.

    Pairs of regions that are each other's cheapest neighbour merge together, round by
    round (reciprocal nearest neighbours; Murtagh, Comput. J. 1983). For criteria such
    as Ward's, where merging brings no other pair closer, that is the tree that single
    steps give. Ties are broken by a fixed hash of the regions' numbers, so that the
    result is the same each time and plateaus do not merge in scan order.

    Parameters
    ----------
    graph : RegionGraph
        n regions.
    cost : callable
        Gives the cost of each pair.
    cancel : threading.Event, optional

    Returns
    -------
    parents : array, int64, shape (2n - 1,)
        Leaves first, then nodes by altitude; a top node is its own parent.
    altitudes : array, float64, shape (2n - 1,)
        The square root of the cost of each merge, at least its children's altitude;
        0 for leaves.

    Raises
    ------
    Cancelled
        If it was cancelled.
    """
    n = graph.n_regions
    parents, altitudes = np.arange(2 * n - 1), np.zeros(2 * n - 1)
    node, following = np.arange(n), n
    while graph.pairs.size:
        stop_if_cancelled(cancel, "Building the supervoxels")
        weight = cost(graph)
        pair = _reciprocal(graph, weight, node)
        a, b = graph.pairs[:, pair]
        merged = np.arange(following, following + len(pair))
        following += len(pair)
        parents[node[a]] = parents[node[b]] = merged
        below = np.maximum(altitudes[node[a]], altitudes[node[b]])
        altitudes[merged] = np.maximum(np.sqrt(weight[pair]), below)
        stays = np.ones(graph.n_regions, bool)
        stays[b] = False
        goes_to = np.cumsum(stays) - 1
        goes_to[b] = goes_to[a]
        node[a] = merged
        node = node[stays]
        graph = graph.joined(goes_to, len(node))
    return _by_altitude(n, parents[:following], altitudes[:following])


def _reciprocal(graph: RegionGraph, weight: np.ndarray, node: np.ndarray) -> np.ndarray:
    """Indices of the pairs that are cheapest for both of their regions, no region twice."""
    a, b = graph.pairs
    best = _least(graph, weight)
    pair = np.flatnonzero((weight == best[a]) & (weight == best[b]))
    a, b = node[a[pair]].astype(np.uint64), node[b[pair]].astype(np.uint64)
    mixed = (a * np.uint64(0x9E3779B97F4A7C15)) ^ (b * np.uint64(0xC2B2AE3D27D4EB4F))
    pair = pair[np.lexsort((mixed, weight[pair]))]
    a, b = graph.pairs[:, pair]
    rank = np.arange(len(pair))
    first = np.full(graph.n_regions, len(pair))
    np.minimum.at(first, a, rank)
    np.minimum.at(first, b, rank)
    return pair[(first[a] == rank) & (first[b] == rank)]


def _least(graph: RegionGraph, weight: np.ndarray) -> np.ndarray:
    """The lowest weight among each region's pairs; infinite where it has none."""
    best = np.full(graph.n_regions, np.inf)
    np.minimum.at(best, graph.pairs[0], weight)
    np.minimum.at(best, graph.pairs[1], weight)
    return best


def _components(n: int, a: np.ndarray, b: np.ndarray) -> tuple[int, np.ndarray]:
    links = coo_array((np.ones(len(a), bool), (a, b)), shape=(n, n))
    count, component = connected_components(links, directed=False)
    return count, component.astype(np.int64)


def _by_altitude(
    n: int, parents: np.ndarray, altitudes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Number the inner nodes by altitude; a parent is never below its children and comes later."""
    inner = np.argsort(altitudes[n:], kind="stable") + n
    number = np.arange(len(parents))
    number[inner] = np.arange(n, len(parents))
    sorted_parents = np.empty_like(parents)
    sorted_parents[number] = number[parents]
    sorted_altitudes = np.empty_like(altitudes)
    sorted_altitudes[number] = altitudes
    return sorted_parents, sorted_altitudes
