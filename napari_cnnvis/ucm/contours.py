"""The ultrametric contour map: at each boundary voxel, the altitude at which its two sides merge.

Arbelaez, Maire, Fowlkes and Malik, TPAMI 2011; in 3D: Yang, Sethi, Rangarajan
and Ranka, ACCV 2016.
"""

from __future__ import annotations

import numpy as np

from napari_cnnvis.ucm.forest import LeafMeeting

__all__ = ["contour_map"]


def contour_map(leaves: np.ndarray, parents: np.ndarray, altitudes: np.ndarray) -> np.ndarray:
    """Altitude at which each voxel merges with the next one along i, j or k, the largest of three.

    Contours are one voxel thick, as only the neighbour at +1 counts. Altitudes are
    rounded up to float32, never down, so that the contours are closed at every
    threshold t: voxels with at most t that are connected by faces lie in one region
    of the cut at t.

    Parameters
    ----------
    leaves : array, int32, shape (i, j, k)
        0 for background, which takes no part; n + 1 for a voxel of leaf n.
    parents : array, int64, shape (n_nodes,)
    altitudes : array, float64, shape (n_nodes,)

    Returns
    -------
    array, float32, shape (i, j, k)
        0 inside leaves and in the background; one above the highest altitude where
        two regions never merge.
    """
    heights = _rounded_up(np.append(altitudes, altitudes.max() + 1))
    meeting = LeafMeeting(parents)
    contours = np.zeros(leaves.shape, np.float32)
    for axis in range(leaves.ndim):
        near = np.moveaxis(leaves, axis, 0)[:-1]
        far = np.moveaxis(leaves, axis, 0)[1:]
        boundary = (near != far) & (near > 0) & (far > 0)
        height = heights[meeting.nodes(near[boundary] - 1, far[boundary] - 1)]
        target = np.moveaxis(contours, axis, 0)[:-1]
        target[boundary] = np.maximum(target[boundary], height)
    return contours


def _rounded_up(values: np.ndarray) -> np.ndarray:
    """The smallest float32 that is not below each float64 value."""
    rounded = values.astype(np.float32)
    below = rounded < values
    rounded[below] = np.nextafter(rounded[below], np.float32(np.inf))
    return rounded
