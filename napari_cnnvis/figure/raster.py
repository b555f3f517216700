"""One picture of a plate as pixels: the scan in gray, the map over it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_cnnvis.figure.colours import colours_of

__all__ = ["Picture", "resampled"]


@dataclass(frozen=True, eq=False)
class Picture:
    """A slice or view, top row first.

    Attributes
    ----------
    gray, values : array, shape (rows, columns)
        The scan from 0 to 1, and the map in its own unit.
    solid : array, shape (rows, columns)
        Opacity of the scan.
    near : array, shape (rows, columns), or None
        What the map's opacity is multiplied by.
    height, width : float
        Millimetres in the patient.
    caption : str
        Below the picture, in the middle.
    ends : (str, str)
        Letters of what lies on the left and the right.
    """

    gray: np.ndarray
    values: np.ndarray
    solid: np.ndarray
    near: np.ndarray | None
    height: float
    width: float
    caption: str
    ends: tuple[str, str]

    def rgba(
        self,
        shape: tuple[int, int],
        limits: tuple[float, float],
        threshold: float,
        smooth: bool,
    ) -> np.ndarray:
        """The picture with so many rows and columns of pixels, uint8, not premultiplied."""
        gray, values, solid = (
            resampled(layer, shape, smooth) for layer in (self.gray, self.values, self.solid)
        )
        colours = colours_of(values, limits, threshold)
        over = colours[..., 3]
        if self.near is not None:
            over = over * resampled(self.near, shape, smooth)
        alpha = over + solid * (1 - over)
        mixed = colours[..., :3] * over[..., None] + (gray * solid * (1 - over))[..., None]
        rgb = mixed / np.where(alpha > 0, alpha, 1)[..., None]
        return np.rint(255 * np.clip(np.dstack([rgb, alpha]), 0, 1)).astype(np.uint8)


def resampled(data: np.ndarray, shape: tuple[int, int], smooth: bool) -> np.ndarray:
    """An array at the centres of so many pixels: linear, or each voxel a rectangle."""
    data = np.asarray(data, dtype=np.float64)
    for axis, count in enumerate(shape):
        size = data.shape[axis]
        place = (np.arange(count) + 0.5) * size / count - 0.5
        if smooth:
            place = np.clip(place, 0, size - 1)
            below = np.minimum(place.astype(int), max(size - 2, 0))
            share = np.expand_dims(place - below, 1 - axis)
            above = np.minimum(below + 1, size - 1)
            data = data.take(below, axis) * (1 - share) + data.take(above, axis) * share
        else:
            data = data.take(np.floor(place + 0.5).astype(int).clip(0, size - 1), axis)
    return data
