"""Boundary strength, the head, and watershed supervoxels inside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from napari_cnnvis.errors import VolumeError

__all__ = ["boundary_strength", "find_head", "supervoxels"]


def boundary_strength(data: np.ndarray, spacing: Sequence[float], sigma: float = 1.4) -> np.ndarray:
    """Magnitude of the Gaussian gradient.

    Parameters
    ----------
    data : array, shape (i, j, k)
    spacing : (float, float, float)
        Millimetres between voxels.
    sigma : float
        Width of the Gaussian in millimetres; at least 0.7 voxels are used.

    Returns
    -------
    array, float32, shape (i, j, k)
        Change of intensity per millimetre.
    """
    total = np.zeros(data.shape, np.float32)
    sigmas = [max(sigma / s, 0.7) for s in spacing]
    for axis, step in enumerate(spacing):
        order = [int(a == axis) for a in range(3)]
        slope = ndimage.gaussian_filter(data, sigmas, order, np.float32, mode="nearest") / step
        total += slope**2
    return np.sqrt(total)


def find_head(data: np.ndarray) -> np.ndarray:
    """The head (or the skull-stripped brain): largest bright component, holes filled.

    Parameters
    ----------
    data : array, shape (i, j, k)

    Returns
    -------
    array, bool, shape (i, j, k)

    Raises
    ------
    VolumeError
        If the volume is constant.
    """
    low, high = float(data.min()), float(data.max())
    if low == high:
        raise VolumeError("The volume has one value everywhere; there is nothing to segment.")
    if (data == low).mean() > 0.3:  # an empty background: skull-stripped or defaced
        bright = data > low
    else:
        bright = data > low + 0.5 * (threshold_otsu(data) - low)
    components, count = ndimage.label(bright)
    if count > 1:
        sizes = np.bincount(components.ravel())
        sizes[0] = 0
        bright = components == sizes.argmax()
    return ndimage.binary_fill_holes(bright)


def supervoxels(strength: np.ndarray, head: np.ndarray, smallest: int = 8) -> np.ndarray:
    """Watershed basins of the boundary strength inside the head, tiny ones joined to neighbours.

    Parameters
    ----------
    strength : array, shape (i, j, k)
    head : array of bool, shape (i, j, k)
    smallest : int
        Basins of fewer voxels take no part; their voxels go to the basins around.

    Returns
    -------
    array, int32, shape (i, j, k)
        Labels 1 .. n; 0 outside the head.
    """
    lowest = ndimage.minimum_filter(strength, size=3) == strength
    markers, _ = ndimage.label(lowest & head, structure=np.ones((3, 3, 3)))
    basins = watershed(strength, markers, mask=head)
    sizes = np.bincount(basins.ravel())
    keep = sizes >= smallest
    keep[0] = False
    if keep.any() and not keep[1:].all():
        markers = np.where(keep[basins], basins, 0)
        basins = watershed(strength, markers, mask=head)
    _, labels = np.unique(basins, return_inverse=True)
    labels = labels.reshape(basins.shape).astype(np.int32)
    return labels if not head.all() else labels + 1
