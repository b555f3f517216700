"""Maps without the steps between regions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

__all__ = ["smoothed"]

_FWHM = np.sqrt(8 * np.log(2))


def smoothed(
    data: np.ndarray, inside: np.ndarray, spacing: Sequence[float], width: float
) -> np.ndarray:
    """A map smoothed by a Gaussian, inside a mask; what lies outside has no influence.

    Parameters
    ----------
    data : array, float32, shape (i, j, k)
    inside : array of bool, same shape
        Where the map has values.
    spacing : sequence of float
        Millimetres between voxels.
    width : float
        Full width at half maximum in millimetres; 0 leaves the map as it is.

    Returns
    -------
    array, float32, same shape
        0 outside the mask.
    """
    if not width:
        return data
    sigma = width / _FWHM / np.asarray(spacing, dtype=float)
    share = ndimage.gaussian_filter(inside.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(inside, data, 0).astype(np.float32), sigma)
    return np.where(inside, total / np.maximum(share, 1e-6), 0).astype(np.float32)
