"""Volume -> Hierarchy: supervoxels merged by Ward linkage of intensity and position."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import higra as hg
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.progress import Progress
from napari_cnnvis.ucm.hierarchy import FINEST, Hierarchy
from napari_cnnvis.ucm.supervoxels import boundary_strength, find_head, supervoxels
from napari_cnnvis.volume import Volume

__all__ = ["build_hierarchy", "default_counts"]


def build_hierarchy(
    volume: Volume,
    position_weight: float = 0.0025,
    counts: Sequence[int] | None = None,
    cancel: threading.Event | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Hierarchy:
    """Nested supervoxels of a scan, from thousands of regions to one.

    Watershed basins of the gradient inside the head are merged pairwise with
    Ward's criterion on mean intensity (divided by its 99th percentile) and
    position, along the region adjacency graph (higra's binary partition tree).

    Parameters
    ----------
    volume : Volume
    position_weight : float
        How much 1 mm counts against the whole range of intensities; more gives
        rounder regions.
    counts : sequence of int, optional
        Numbers of regions of the levels that sensitivity uses; see `default_counts`.
    cancel : threading.Event, optional
        When set, stops between steps.
    progress : callable, optional
        Called with a `Progress` before each step.

    Returns
    -------
    Hierarchy

    Raises
    ------
    VolumeError
        If the volume is constant, or building was cancelled.
    """

    steps = (
        "finding the head",
        "measuring boundaries",
        "growing supervoxels",
        "merging supervoxels",
    )

    def begin(number: int) -> None:
        if cancel is not None and cancel.is_set():
            raise VolumeError("Building the supervoxels was cancelled.")
        if progress is not None:
            progress(Progress(number, len(steps), steps[number]))

    begin(0)
    head = find_head(volume.data)
    begin(1)
    scale = float(np.percentile(volume.data[head], 99)) or 1.0
    strength = boundary_strength(volume.data / scale, volume.spacing)
    begin(2)
    leaves = supervoxels(strength, head)
    begin(3)
    n = int(leaves.max())
    sizes = np.bincount(leaves.ravel(), minlength=n + 1)[1:]
    intensity = _means(leaves, volume.data / scale, sizes)
    grid = np.indices(leaves.shape, sparse=True)
    centres = [_means(leaves, np.broadcast_to(g, leaves.shape), sizes) for g in grid]
    position = np.stack(centres, 1) * volume.spacing
    features = np.column_stack([intensity, position_weight * position])
    edges = _connect(adjacent(leaves), position, n)
    parents, altitudes = _ward_tree(n, edges, features, sizes)
    return Hierarchy.from_tree(leaves, parents, altitudes, counts or default_counts(n))


def default_counts(
    n_leaves: int, finest: int = FINEST, coarsest: int = 12, levels: int = 8
) -> list[int]:
    """Numbers of regions spread evenly in their logarithm, fine to coarse, no two equal."""
    finest = min(finest, n_leaves)
    coarsest = min(coarsest, finest)
    counts = np.geomspace(finest, coarsest, levels).round().astype(int)
    return sorted(set(counts.tolist()), reverse=True)


def adjacent(labels: np.ndarray) -> np.ndarray:
    """Pairs of labels (0-based, shape (n, 2)) that share a face, each once; 0 takes no part."""
    pairs = []
    for axis in range(3):
        a = np.moveaxis(labels, axis, 0)[:-1]
        b = np.moveaxis(labels, axis, 0)[1:]
        touching = (a != b) & (a > 0) & (b > 0)
        pairs.append(np.stack([np.minimum(a, b)[touching], np.maximum(a, b)[touching]]))
    low, high = np.concatenate(pairs, axis=1).astype(np.int64)
    n = int(labels.max()) + 1
    keys = np.sort(low * n + high)  # sorting plain numbers lets other threads run meanwhile
    keys = keys[np.diff(keys, prepend=-1) > 0]
    return np.stack([keys // n, keys % n], axis=1) - 1


def _means(labels: np.ndarray, values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return np.bincount(labels.ravel(), values.ravel(), len(sizes) + 1)[1:] / sizes


def _connect(edges: np.ndarray, position: np.ndarray, n: int) -> np.ndarray:
    """Add edges between the nearest regions of separate components, so that one tree results."""
    while True:
        graph = coo_array((np.ones(len(edges)), edges.T), shape=(n, n))
        count, component = connected_components(graph, directed=False)
        if count == 1:
            return edges
        own = component == component[0]
        distance, nearest = cKDTree(position[~own]).query(position[own])
        a = np.flatnonzero(own)[distance.argmin()]
        b = np.flatnonzero(~own)[nearest[distance.argmin()]]
        edges = np.concatenate([edges, [[min(a, b), max(a, b)]]])


def _ward_tree(
    n: int, edges: np.ndarray, features: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if n == 1:
        return np.zeros(1, dtype=np.int64), np.zeros(1)
    graph = hg.UndirectedGraph(n)
    graph.add_edges(edges[:, 0], edges[:, 1])
    tree, altitudes = hg.binary_partition_tree_ward_linkage(
        graph, features, sizes.astype(np.float64), altitude_correction="max"
    )
    return np.asarray(tree.parents(), dtype=np.int64), np.asarray(altitudes, dtype=np.float64)
