"""The hierarchy of supervoxels: leaves, the tree that merges them, cuts and levels.

A hierarchy is a forest over the finest regions (leaves). Each node is a region;
a node's altitude is the height at which its children merge, so every threshold
gives a segmentation and all of them nest (an ultrametric contour map; Arbelaez
et al. 2011; Yang, Sethi, Rangarajan and Ranka, ACCV 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from napari_cnnvis.errors import MethodError, VolumeError

__all__ = ["FINEST", "Hierarchy"]

#: number of regions on the finest level that sensitivity uses, where nothing else is asked for
FINEST = 300


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

    Use `build_hierarchy` or `Hierarchy.from_levels` to make one.
    """

    leaves: np.ndarray
    parents: np.ndarray
    altitudes: np.ndarray
    levels: np.ndarray

    @classmethod
    def from_tree(
        cls,
        leaves: np.ndarray,
        parents: np.ndarray,
        altitudes: np.ndarray,
        counts: Sequence[int],
    ) -> Hierarchy:
        """From a merge tree; ``counts`` are the numbers of regions of its levels."""
        empty = np.empty((0, int(leaves.max())), dtype=np.int64)
        tree = cls(leaves, parents, altitudes, empty)
        levels = [tree.cut_nodes(n) for n in counts]
        return cls(leaves, parents, altitudes, np.array(levels))

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
        volumes = [np.asarray(v) for v in label_volumes]
        if not volumes:
            raise VolumeError("No label volumes were given; give at least one level.")
        for number, volume in enumerate(volumes):
            if volume.shape != volumes[0].shape or volume.ndim != 3:
                raise VolumeError(
                    f"Level {number} has shape {volume.shape}, level 0 has {volumes[0].shape}; all "
                    "levels have to be 3D and of one shape."
                )
            if volume.dtype.kind not in "biu":
                raise VolumeError(
                    f"Level {number} holds {volume.dtype} values; labels have to be integers."
                )
        inside = np.ones(volumes[0].shape, bool)
        if background is not None:
            inside = volumes[0] != background
            for number, volume in enumerate(volumes):
                if ((volume != background) != inside).any():
                    raise VolumeError(
                        f"Level {number} does not have the same background ({background}) as "
                        "level 0."
                    )
        if not inside.any():
            raise VolumeError("All voxels are background; there is no region.")
        values, leaf_of_voxel = np.unique(volumes[0][inside], return_inverse=True)
        n_leaves = len(values)
        leaves = np.zeros(inside.shape, np.int32)
        leaves[inside] = leaf_of_voxel + 1
        node_of_leaf = np.arange(n_leaves)
        parents, altitudes, levels = list(range(n_leaves)), [0.0] * n_leaves, [node_of_leaf]
        first_voxel = np.empty(n_leaves, dtype=np.int64)
        first_voxel[leaf_of_voxel[::-1]] = np.arange(len(leaf_of_voxel))[::-1]
        for number, volume in enumerate(volumes[1:], start=1):
            labels = volume[inside]
            of_leaf = labels[first_voxel]
            if (of_leaf[leaf_of_voxel] != labels).any():
                wrong = int(values[leaf_of_voxel[np.argmax(of_leaf[leaf_of_voxel] != labels)]])
                raise VolumeError(
                    f"The levels do not nest: region {wrong} of level 0 is split on level {number}. "
                    "Give them fine to coarse."
                )
            node_of_leaf = _merge(node_of_leaf, of_leaf, parents, altitudes, number)
            levels.append(node_of_leaf)
        return cls(leaves, np.array(parents), np.array(altitudes), np.array(levels))

    @property
    def n_leaves(self) -> int:
        """Number of finest regions."""
        return int(self.leaves.max())

    @property
    def n_nodes(self) -> int:
        """Number of distinct regions in the tree."""
        return len(self.parents)

    @cached_property
    def leaf_counts(self) -> np.ndarray:
        """Number of leaves under each node, shape (n_nodes,)."""
        counts = np.zeros(self.n_nodes, dtype=np.int64)
        counts[: self.n_leaves] = 1
        for node in range(self.n_nodes):
            if self.parents[node] != node:
                counts[self.parents[node]] += counts[node]
        return counts

    @cached_property
    def sizes(self) -> np.ndarray:
        """Number of voxels of each node's region, shape (n_nodes,)."""
        sizes = np.zeros(self.n_nodes, dtype=np.int64)
        sizes[: self.n_leaves] = np.bincount(self.leaves.ravel(), minlength=self.n_leaves + 1)[1:]
        for node in range(self.n_nodes):
            if self.parents[node] != node:
                sizes[self.parents[node]] += sizes[node]
        return sizes

    @cached_property
    def _leaf_order(self) -> tuple[np.ndarray, np.ndarray]:
        """Rank of each leaf and first rank of each node, such that a node's leaves are neighbours."""
        start = np.zeros(self.n_nodes, dtype=np.int64)
        following = 0
        taken = np.zeros(self.n_nodes, dtype=np.int64)
        for node in range(self.n_nodes - 1, -1, -1):
            parent = self.parents[node]
            if parent == node:
                start[node] = following
                following += self.leaf_counts[node]
            else:
                start[node] = start[parent] + taken[parent]
                taken[parent] += self.leaf_counts[node]
        return start[: self.n_leaves], start

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
        rank_of_leaf, start = self._leaf_order
        inside = np.flatnonzero(flat)
        rank = rank_of_leaf[flat[inside] - 1]
        order = np.argsort(rank, kind="stable")
        edges = np.concatenate([[0], np.cumsum(np.bincount(rank, minlength=self.n_leaves))])
        return inside[order], edges[start], edges[start + self.leaf_counts]

    def cut_nodes(self, n_regions: int) -> np.ndarray:
        """For each leaf its node in the finest segmentation of at most `n_regions` regions.

        Raises
        ------
        MethodError
            If the coarsest segmentation has more regions, or the number is below 1.
        """
        tops = int((self.parents == np.arange(self.n_nodes)).sum())
        if n_regions < max(tops, 1):
            raise MethodError(
                f"The coarsest segmentation has {max(tops, 1)} regions; {n_regions} cannot be cut."
            )
        inner = np.arange(self.n_leaves, self.n_nodes)
        order = inner[np.argsort(self.altitudes[inner], kind="stable")]
        children = np.bincount(
            self.parents[self.parents != np.arange(self.n_nodes)], minlength=self.n_nodes
        )
        remaining = self.n_leaves - np.cumsum(children[order] - 1)
        last_of_tie = np.append(np.diff(self.altitudes[order]) > 0, True)
        if not self._binary:  # nodes that one level made belong together
            remaining, order_ends = remaining[last_of_tie], np.flatnonzero(last_of_tie) + 1
        else:
            order_ends = np.arange(1, len(order) + 1)
        if n_regions >= self.n_leaves:
            merged = 0
        else:
            merged = int(order_ends[np.argmax(remaining <= n_regions)])
        made = np.zeros(self.n_nodes, dtype=bool)
        made[order[:merged]] = True
        node = np.arange(self.n_nodes)
        for n in range(self.n_nodes - 1, -1, -1):
            parent = self.parents[n]
            if parent != n and made[parent]:
                node[n] = node[parent]
        return node[: self.n_leaves]

    @cached_property
    def _binary(self) -> bool:
        inner = self.parents[self.parents != np.arange(self.n_nodes)]
        return self.n_nodes == self.n_leaves or bool(
            (np.bincount(inner)[self.n_leaves :] == 2).all()
        )

    def cut(self, n_regions: int) -> np.ndarray:
        """The finest segmentation with at most `n_regions` regions.

        Returns
        -------
        array, int32, shape of the volume
            Labels 1 .. n; 0 = background.

        Raises
        ------
        MethodError
            If the coarsest segmentation has more regions.
        """
        return self.label_volume(self.cut_nodes(n_regions))

    def label_volume(self, node_of_leaf: np.ndarray) -> np.ndarray:
        """Label volume (int32, 1 .. n, 0 = background) of one level."""
        _, labels = np.unique(node_of_leaf, return_inverse=True)
        return np.concatenate([[0], labels + 1]).astype(np.int32)[self.leaves]

    def __repr__(self) -> str:
        counts = [len(np.unique(level)) for level in self.levels]
        return f"Hierarchy({self.n_leaves} leaves, {self.n_nodes} regions, levels of {counts})"


def _merge(
    node_of_leaf: np.ndarray,
    label_of_leaf: np.ndarray,
    parents: list[int],
    altitudes: list[float],
    altitude: int,
) -> np.ndarray:
    """Add the nodes of the next coarser level; a region that did not grow stays the node it was."""
    _, group = np.unique(label_of_leaf, return_inverse=True)
    pairs = np.unique(np.stack([group, node_of_leaf]), axis=1)
    if pairs.shape[1] != len(np.unique(node_of_leaf)):
        raise VolumeError(
            f"The levels do not nest: a region of level {altitude - 1} is split on level "
            f"{altitude}. Give them fine to coarse."
        )
    node_of_group = np.empty(group.max() + 1, dtype=np.int64)
    for g in range(len(node_of_group)):
        members = pairs[1, pairs[0] == g]
        if len(members) == 1:
            node_of_group[g] = members[0]
            continue
        new = len(parents)
        parents.append(new)
        altitudes.append(float(altitude))
        for member in members:
            parents[member] = new
        node_of_group[g] = new
    return node_of_group[group]
