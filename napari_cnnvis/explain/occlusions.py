"""Regions to occlude, and what their voxels become."""

from __future__ import annotations

from typing import Protocol

import numpy as np

__all__ = ["Occlusions"]


class Occlusions(Protocol):
    """Many versions of one volume, in each of which some voxels are replaced.

    Attributes
    ----------
    boxes : array, int64, shape (n, 3, 2)
        Bounding box of each one's voxels, ``[low, high)`` along each axis.
    """

    boxes: np.ndarray

    def voxels(self, index: int) -> np.ndarray:
        """Flat indices of the voxels that are replaced."""
        ...

    def values(self, index: int) -> np.ndarray:
        """What they become, float32."""
        ...
