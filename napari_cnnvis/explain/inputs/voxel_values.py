"""The values of a scan's voxels that a run gave, and the maps that are drawn of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.scan.smoothing import smoothed

__all__ = ["VoxelValues", "redrawn"]


@dataclass(frozen=True, eq=False)
class VoxelValues:
    """Signed values on the scan's grid.

    Attributes
    ----------
    signed : array, float32, shape (i, j, k)
    inside : array of bool, same shape
        What the network sees of the scan.
    """

    signed: np.ndarray
    inside: np.ndarray

    def covered(self) -> np.ndarray:
        """Where there are values."""
        return self.inside

    def map(self, sign: str, width: float, spacing: Sequence[float]) -> np.ndarray:
        """The map, smoothed by `width` mm after its sign was taken or left."""
        values = np.abs(self.signed) if sign == "absolute" else self.signed
        return smoothed(values, self.inside, spacing, width)


def redrawn(attribution: Attribution, how: Any) -> Attribution:
    """The attribution with another sign or smoothing, from the values that are kept."""
    spacing = np.linalg.norm(attribution.affine[:3, :3], axis=0)
    data = attribution.voxels.map(how.sign, how.smooth, tuple(spacing))
    return replace(attribution, data=data, record=attribution.record.of_view(how))
