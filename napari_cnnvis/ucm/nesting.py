"""Nested label volumes made elsewhere -> the forest of their distinct regions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_cnnvis.errors import VolumeError

__all__ = ["nest"]


def nest(
    label_volumes: Sequence[np.ndarray], background: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Leaves, parents, altitudes and levels of nested label volumes, fine to coarse.

    Parameters and exceptions are those of `Hierarchy.from_levels`, and the four
    arrays those of a `Hierarchy`. The altitude of a node is the number of the
    level that made it.
    """
    volumes = [np.asarray(v) for v in label_volumes]
    _check_volumes(volumes)
    inside = _inside(volumes, background)
    values, leaf_of_voxel = np.unique(volumes[0][inside], return_inverse=True)
    n_leaves = len(values)
    leaves = np.zeros(inside.shape, np.int32)
    leaves[inside] = leaf_of_voxel + 1
    first_voxel = np.empty(n_leaves, dtype=np.int64)
    first_voxel[leaf_of_voxel[::-1]] = np.arange(len(leaf_of_voxel))[::-1]
    node_of_leaf = np.arange(n_leaves)
    parents, altitudes, levels = node_of_leaf, np.zeros(n_leaves), [node_of_leaf]
    for number, volume in enumerate(volumes[1:], start=1):
        labels = volume[inside]
        of_leaf = labels[first_voxel]
        differs = of_leaf[leaf_of_voxel] != labels
        if differs.any():
            wrong = int(values[leaf_of_voxel[np.argmax(differs)]])
            raise VolumeError(
                f"The levels do not nest: region {wrong} of level 0 is split on level {number}. "
                "Give them fine to coarse."
            )
        node_of_leaf, parents = _merge(node_of_leaf, of_leaf, parents, number)
        altitudes = np.append(altitudes, np.full(len(parents) - len(altitudes), float(number)))
        levels.append(node_of_leaf)
    return leaves, parents, altitudes, np.array(levels)


def _check_volumes(volumes: list[np.ndarray]) -> None:
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


def _inside(volumes: list[np.ndarray], background: int | None) -> np.ndarray:
    """The voxels that are not background, the same ones on every level."""
    inside = np.ones(volumes[0].shape, bool)
    if background is not None:
        inside = volumes[0] != background
        for number, volume in enumerate(volumes):
            if ((volume != background) != inside).any():
                raise VolumeError(
                    f"Level {number} does not have the same background ({background}) as level 0."
                )
    if not inside.any():
        raise VolumeError("All voxels are background; there is no region.")
    return inside


def _merge(
    node_of_leaf: np.ndarray, label_of_leaf: np.ndarray, parents: np.ndarray, level: int
) -> tuple[np.ndarray, np.ndarray]:
    """The node of each leaf on the next coarser level, and the parents with its new nodes.

    A region that did not grow stays the node it was.
    """
    _, group = np.unique(label_of_leaf, return_inverse=True)
    pairs = np.unique(group * len(parents) + node_of_leaf)
    group_of_pair, member = np.divmod(pairs, len(parents))
    if len(pairs) != len(np.unique(member)):
        raise VolumeError(
            f"The levels do not nest: a region of level {level - 1} is split on level "
            f"{level}. Give them fine to coarse."
        )
    grew = np.bincount(group_of_pair) > 1
    node_of_group = np.empty(len(grew), dtype=np.int64)
    node_of_group[group_of_pair] = member
    node_of_group[grew] = len(parents) + np.arange(grew.sum())
    parents = np.append(parents, node_of_group[grew])
    parents[member] = node_of_group[group_of_pair]
    return node_of_group[group], parents
