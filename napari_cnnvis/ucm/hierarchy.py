"""The hierarchy of supervoxels: leaves, the tree that merges them, cuts and levels.

A hierarchy is a forest over the finest regions (leaves). Each node is a region;
a node's altitude is the height at which its children merge, so every threshold
gives a segmentation and all of them nest (an ultrametric contour map; Arbelaez
et al. 2011; Yang, Sethi, Rangarajan and Ranka, ACCV 2016).
"""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from napari_cnnvis.errors import MethodError, VolumeError
from napari_cnnvis.ucm.contours import contour_map
from napari_cnnvis.ucm.files import (
    is_saved_hierarchy,
    load_hierarchy,
    read_levels,
    save_hierarchy,
)
from napari_cnnvis.ucm.forest import climb, label_volume, leaf_order, sums_over_nodes, tops
from napari_cnnvis.ucm.nesting import nest

__all__ = ["Hierarchy"]


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Nested segmentations of one volume.

    Attributes
    ----------
    leaves : array, int32, shape (i, j, k)
        0 for background, n + 1 for a voxel of leaf n.
    parents : array, int64, shape (n_nodes,)
        The node that a node merges into; a top node is its own parent. Leaves
        come first and parents come after their children.
    altitudes : array, float64, shape (n_nodes,)
        Height of each node, never lower than its children's; 0 for leaves.
    levels : array, int64, shape (n_levels, n_leaves)
        The segmentations that sensitivity averages over, fine to coarse: for
        each level, the node that a leaf belongs to.
    origin : dict
        Where it comes from, as plain values: arguments of `build_hierarchy` or files.

    Use `build_hierarchy` or `Hierarchy.from_levels` to make one.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_cnnvis as cv
    >>> fine = np.arange(1, 9).reshape(2, 2, 2)
    >>> coarse = (fine > 4) + 1
    >>> hierarchy = cv.Hierarchy.from_levels([fine, coarse])
    >>> hierarchy
    Hierarchy(8 leaves, 10 regions, levels of [8, 2])
    >>> hierarchy.cut(2)[:, 0, 0]
    array([1, 2], dtype=int32)
    """

    leaves: np.ndarray
    parents: np.ndarray
    altitudes: np.ndarray
    levels: np.ndarray
    origin: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_tree(
        cls,
        leaves: np.ndarray,
        parents: np.ndarray,
        altitudes: np.ndarray,
        counts: Sequence[int],
    ) -> Hierarchy:
        """From a merge tree; ``counts`` are the numbers of regions of its levels.

        The levels are the cuts with so many regions, fine to coarse. Where two counts
        give the same cut, it is one level.
        """
        empty = np.empty((0, int(leaves.max())), dtype=np.int64)
        tree = cls(leaves, parents, altitudes, empty)
        levels = {len(np.unique(level)): level for level in map(tree.cut_nodes, counts)}
        in_order = [empty, *(levels[n][None] for n in sorted(levels, reverse=True))]
        return cls(leaves, parents, altitudes, np.concatenate(in_order))

    @classmethod
    def from_levels(
        cls, label_volumes: Sequence[np.ndarray], background: int | None = None
    ) -> Hierarchy:
        """From nested label volumes made elsewhere.

        Parameters
        ----------
        label_volumes : sequence of integer arrays, shape (i, j, k)
            Fine to coarse. Every value is a region, 0 too; a region that is the
            same on several levels is one node.
        background : int, optional
            A value that is left out, on every level.

        Returns
        -------
        Hierarchy
            Its ``levels`` are those given, repeated ones included.

        Raises
        ------
        VolumeError
            If the volumes differ in shape, are not integers, or do not nest.
        """
        return cls(*nest(label_volumes, background))

    @classmethod
    def load(cls, path: str | os.PathLike) -> Hierarchy:
        """A hierarchy that `save` wrote; see `files.load_hierarchy`.

        Raises
        ------
        VolumeError
            If the file is not a saved hierarchy, or is damaged.
        """
        origin = {"files": [os.path.abspath(path)], "background": None}
        return cls(**load_hierarchy(path), origin=origin)

    @classmethod
    def read(
        cls,
        path: str | os.PathLike | Sequence[str | os.PathLike],
        background: int | None = None,
    ) -> Hierarchy:
        """From files: a saved hierarchy, or label volumes as `files.read_levels` reads them.

        Parameters
        ----------
        path : path-like, or a sequence of them
        background : int, optional
            As in `from_levels`, e.g. 0 for an atlas. A saved hierarchy knows its own.

        Raises
        ------
        VolumeError
            If a file cannot be read, or the levels do not nest.
        """
        if isinstance(path, str | os.PathLike) and is_saved_hierarchy(path):
            return cls.load(path)
        files = [path] if isinstance(path, str | os.PathLike) else list(path)
        origin = {"files": [os.path.abspath(file) for file in files], "background": background}
        return replace(cls.from_levels(read_levels(path), background), origin=origin)

    def save(self, path: str | os.PathLike, overwrite: bool = False) -> Path:
        """Write it to one ``.npz`` file; see `files.save_hierarchy`.

        Parameters
        ----------
        path : path-like
        overwrite : bool
            Replace a file that is there; never one that it was read from.

        Raises
        ------
        VolumeError
            If the file cannot be written, or is there.
        """
        return save_hierarchy(self, path, overwrite)

    @cached_property
    def n_leaves(self) -> int:
        """Number of finest regions."""
        return int(self.leaves.max())

    @property
    def n_nodes(self) -> int:
        """Number of distinct regions in the tree."""
        return len(self.parents)

    @cached_property
    def leaf_counts(self) -> np.ndarray:
        """Number of leaves under each node, int64, shape (n_nodes,)."""
        return sums_over_nodes(self.parents, np.ones(self.n_leaves, dtype=np.int64))

    @cached_property
    def sizes(self) -> np.ndarray:
        """Number of voxels of each node's region, int64, shape (n_nodes,)."""
        of_leaf = np.bincount(self.leaves.ravel(), minlength=self.n_leaves + 1)[1:]
        return sums_over_nodes(self.parents, of_leaf)

    @cached_property
    def first_ranks(self) -> np.ndarray:
        """Rank of each node's first leaf, int64, in an order that keeps a node's leaves together.

        Node n holds the leaves of rank ``first_ranks[n]`` up to, but without,
        ``first_ranks[n] + leaf_counts[n]``.
        """
        return leaf_order(self.parents, self.leaf_counts)

    def voxels(self, leaves: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Flat voxel indices sorted so that each node's voxels are one slice.

        Parameters
        ----------
        leaves : array of int, optional
            The leaf volume on another grid; ``self.leaves`` by default.

        Returns
        -------
        indices : array, int64
            Into the flattened volume.
        first, last : arrays, int64, shape (n_nodes,)
            Node n covers ``indices[first[n]:last[n]]``.
        """
        flat = (self.leaves if leaves is None else leaves).ravel()
        start = self.first_ranks
        inside = np.flatnonzero(flat)
        rank = start[flat[inside] - 1]
        order = np.argsort(rank, kind="stable")
        edges = np.concatenate([[0], np.cumsum(np.bincount(rank, minlength=self.n_leaves))])
        return inside[order], edges[start], edges[start + self.leaf_counts]

    def cut_nodes(
        self, n_regions: int | None = None, *, altitude: float | None = None
    ) -> np.ndarray:
        """For each leaf its node in one segmentation; see `cut`.

        Returns
        -------
        array, int64, shape (n_leaves,)

        Raises
        ------
        MethodError
            As `cut`.
        """
        if (n_regions is None) == (altitude is None):
            raise MethodError(
                "Give either a number of regions or an altitude, not both: cut(300) or "
                "cut(altitude=0.5)."
            )
        made = np.zeros(self.n_nodes, dtype=bool)
        if n_regions is not None:
            made[self._merges_down_to(n_regions)] = True
        elif altitude is None or np.isnan(altitude):
            raise MethodError("The altitude is not a number; give one from 0 up.")
        else:
            made[self.n_leaves :] = self.altitudes[self.n_leaves :] <= altitude
        return climb(self.parents, made)[: self.n_leaves]

    def _merges_down_to(self, n_regions: int) -> np.ndarray:
        """The nodes to make, lowest first, until at most `n_regions` are left."""
        coarsest = len(tops(self.parents))
        if n_regions < coarsest:
            raise MethodError(
                f"The coarsest segmentation has {coarsest} regions; {n_regions} cannot be cut."
            )
        if n_regions >= self.n_leaves:
            return np.empty(0, dtype=np.int64)
        order = self.n_leaves + np.argsort(self.altitudes[self.n_leaves :], kind="stable")
        remaining = self.n_leaves - np.cumsum(self._n_children[order] - 1)
        last = np.arange(1, len(order) + 1)
        if (self._n_children[self.n_leaves :] != 2).any():
            # nodes that one level made belong together
            last_of_tie = np.append(np.diff(self.altitudes[order]) > 0, True)
            remaining, last = remaining[last_of_tie], last[last_of_tie]
        return order[: last[np.argmax(remaining <= n_regions)]]

    @cached_property
    def _n_children(self) -> np.ndarray:
        merging = self.parents[self.parents != np.arange(self.n_nodes)]
        return np.bincount(merging, minlength=self.n_nodes)

    def cut(self, n_regions: int | None = None, *, altitude: float | None = None) -> np.ndarray:
        """One segmentation, by its number of regions or by altitude.

        Parameters
        ----------
        n_regions : int
            Gives the finest segmentation with at most so many regions. A tree in
            which each node has two children gives exactly so many.
        altitude : float
            Gives the segmentation in which all merges at or below it are done.

        Returns
        -------
        array, int32, shape of the volume
            Labels 1 .. n; 0 = background.

        Raises
        ------
        MethodError
            If the coarsest segmentation has more regions, or not exactly one of the
            two is given.
        """
        return self.label_volume(self.cut_nodes(n_regions, altitude=altitude))

    def label_volume(self, node_of_leaf: np.ndarray) -> np.ndarray:
        """Label volume (int32, 1 .. n, 0 = background) of one level."""
        return label_volume(self.leaves, self.n_nodes, node_of_leaf)

    def contour_map(self) -> np.ndarray:
        """Ultrametric contour map, float32, shape of the volume; see `contours.contour_map`.

        Where ``contour_map() <= t``, voxels that are connected by faces lie in one
        region of ``cut(altitude=t)``.
        """
        return contour_map(self.leaves, self.parents, self.altitudes)

    def chain(self, voxel: Sequence[int]) -> np.ndarray:
        """The nodes that hold a voxel, from its leaf to the top.

        Parameters
        ----------
        voxel : three ints
            Index i, j, k.

        Returns
        -------
        array, int64
            Rising; empty for background.

        Raises
        ------
        VolumeError
            If the index lies outside the volume, or is not of whole numbers.
        """
        shape = self.leaves.shape
        try:
            index = tuple(operator.index(i) for i in voxel)
        except TypeError as exc:
            raise VolumeError(
                f"The voxel {tuple(voxel)} has to be three whole numbers i, j, k; round a position first."
            ) from exc
        if len(index) != len(shape) or not all(
            0 <= i < n for i, n in zip(index, shape, strict=True)
        ):
            raise VolumeError(
                f"Voxel {index} is outside the volume; choose an index i, j, k from 0, 0, 0 "
                f"to {', '.join(str(n - 1) for n in shape)}."
            )
        nodes = []
        node, above = None, int(self.leaves[index]) - 1
        while above >= 0 and above != node:
            nodes.append(above)
            node, above = above, int(self.parents[above])
        return np.array(nodes, dtype=np.int64)

    def node_means(self, data: np.ndarray) -> np.ndarray:
        """Mean of a volume over each node's region.

        Parameters
        ----------
        data : array, shape of the volume

        Returns
        -------
        array, float64, shape (n_nodes,)

        Raises
        ------
        VolumeError
            If the shape is another than the hierarchy's.
        """
        data = np.asarray(data)
        if data.shape != self.leaves.shape:
            raise VolumeError(
                f"The hierarchy has {self.leaves.shape} voxels, but the volume {data.shape}; "
                "they have to be on the same grid."
            )
        of_leaf = np.bincount(self.leaves.ravel(), data.ravel(), self.n_leaves + 1)[1:]
        return sums_over_nodes(self.parents, of_leaf) / self.sizes

    def __repr__(self) -> str:
        counts = [len(np.unique(level)) for level in self.levels]
        return f"Hierarchy({self.n_leaves} leaves, {self.n_nodes} regions, levels of {counts})"
