"""What an occluded voxel becomes: a number, or the scan without its detail."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from napari_cnnvis.explain.options import check_baseline

__all__ = ["BLUR_SIGMA", "make_baseline"]

#: width of the blur baseline in millimetres
BLUR_SIGMA = 12.0


def make_baseline(
    data: np.ndarray,
    baseline: float | str,
    spacing: Sequence[float],
    sigma: float = BLUR_SIGMA,
) -> np.ndarray:
    """The image that occluded voxels are taken from.

    Parameters
    ----------
    data : array, float32, shape (i, j, k)
        The volume as the network sees it.
    baseline : float or "blur"
        A number is used everywhere, in the units of `data`. "blur" is a Gaussian
        mean over the voxels of the head around, so that the edge of a skull-stripped
        brain is not darkened; an empty background stays as it is.
    spacing : (float, float, float)
        Millimetres between voxels.
    sigma : float
        Width of the Gaussian in millimetres.

    Returns
    -------
    array, float32, shape (i, j, k)

    Raises
    ------
    MethodError
        If `baseline` is neither a number nor "blur".
    """
    value = check_baseline(baseline)
    if value != "blur":
        return np.full(data.shape, value, dtype=np.float32)
    head = data > data.min()
    head = ndimage.binary_fill_holes(head) if head.mean() < 0.7 else np.ones(data.shape, bool)
    weight = head.astype(np.float32)
    widths = [sigma / s for s in spacing]
    total = ndimage.gaussian_filter(data * weight, widths, mode="nearest", truncate=3)
    share = ndimage.gaussian_filter(weight, widths, mode="nearest", truncate=3)
    blurred = np.where(head, total / np.maximum(share, 1e-6), data)
    return blurred.astype(np.float32)
