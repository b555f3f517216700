"""Regions with a margin, so that occluding them takes their outline away too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

__all__ = ["with_margin"]


def with_margin(
    indices: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    margin: float,
    spacing: Sequence[float] | np.ndarray,
    inside: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Regions and every voxel inside that is at most `margin` away from them.

    Parameters
    ----------
    indices : array, int64
        Flat voxel indices; region r covers ``indices[first[r]:last[r]]``.
    first, last : arrays, int64, shape (n_regions,)
    margin : float
        In millimetres, between centres of voxels.
    spacing : (float, float, float)
        Millimetres between voxels.
    inside : array of bool, shape (i, j, k)
        Where regions can grow.

    Returns
    -------
    indices, first, last
        As given, of the larger regions, which overlap.
    """
    reach = [int(margin // step) for step in spacing]
    grid = np.meshgrid(
        *(np.arange(-r, r + 1) * s for r, s in zip(reach, spacing, strict=True)), indexing="ij"
    )
    ball = sum(g**2 for g in grid) <= margin**2 * (1 + 1e-6)
    grown = []
    for a, b in zip(first, last, strict=True):
        places = np.unravel_index(indices[a:b], inside.shape)
        box = tuple(
            slice(max(0, p.min() - r), p.max() + r + 1) if len(p) else slice(0, 0)
            for p, r in zip(places, reach, strict=True)
        )
        region = np.zeros(inside[box].shape, bool)
        region[tuple(p - s.start for p, s in zip(places, box, strict=True))] = True
        if region.size:
            region = ndimage.binary_dilation(region, ball) & inside[box]
        offset = [np.arange(s.start, s.start + region.shape[axis]) for axis, s in enumerate(box)]
        flat = np.ravel_multi_index(np.ix_(*offset), inside.shape)
        grown.append(flat[region])
    ends = np.cumsum([len(g) for g in grown])
    return np.concatenate(grown), np.concatenate([[0], ends[:-1]]), ends
