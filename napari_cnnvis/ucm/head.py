"""The head (or the skull-stripped brain) in a scan."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from napari_cnnvis.errors import VolumeError

__all__ = ["find_head"]


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
