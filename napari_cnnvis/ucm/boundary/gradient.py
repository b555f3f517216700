"""Boundary strength between neighbouring voxels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

__all__ = ["SCALES", "Faces", "between_voxels", "gradient"]

#: for each axis, the strength at the faces between a voxel and the next one, one fewer along it
Faces = tuple[np.ndarray, np.ndarray, np.ndarray]
#: widths of the Gaussians of the gradient, in millimetres; 0 is the scan as it is
SCALES = (0.0,)


def gradient(data: np.ndarray, spacing: Sequence[float], scales: Sequence[float] = SCALES) -> Faces:
    """Gradient across each face between voxels, the mean over several scales.

    Parameters
    ----------
    data : array, shape (i, j, k)
    spacing : (float, float, float)
        Millimetres between voxels.
    scales : sequence of float
        Standard deviations of the Gaussians, in millimetres.

    Returns
    -------
    three arrays, float32
        Change of intensity per millimetre, without sign.
    """
    faces = []
    smooth = [
        ndimage.gaussian_filter(data, [s / step for step in spacing], mode="nearest") if s else data
        for s in scales
    ]
    for axis, step in enumerate(spacing):
        total = np.sum([np.abs(np.diff(x, axis=axis)) for x in smooth], axis=0)
        faces.append((total / (len(scales) * step)).astype(np.float32))
    return faces[0], faces[1], faces[2]


def between_voxels(strength: np.ndarray) -> Faces:
    """The strength at each face: the mean of its two voxels."""
    return tuple(
        (strength.take(range(1, n), axis) + strength.take(range(n - 1), axis)) / 2
        for axis, n in enumerate(strength.shape)
    )
