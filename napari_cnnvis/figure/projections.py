"""Six views from outside: attenuated maximum-intensity projections."""

from __future__ import annotations

import numpy as np

from napari_cnnvis.figure.geometry import View

__all__ = ["project_map", "project_scan"]

#: millimetres of white tissue after which the scan is weakened to 1 / e
_SCAN_DEPTH = 12.0
#: millimetres below the surface of the head after which the map is weakened to 1 / e
_MAP_DEPTH = 90.0


def project_scan(gray: np.ndarray, view: View, spacing: tuple[float, ...]) -> np.ndarray:
    """The brightest voxel of each ray, weakened by what lies before it.

    Parameters
    ----------
    gray : array, shape (i, j, k), axes R, A, S
        From 0 (black) to 1 (white).
    view : View
    spacing : tuple of float
        Millimetres along i, j, k.

    Returns
    -------
    array, float32, shape (rows, columns)
    """
    laid = view.laid_out(gray)
    step = spacing[view.axis] / _SCAN_DEPTH
    before = np.zeros(laid.shape[1:], np.float32)
    brightest = np.zeros_like(before)
    for plane in laid:
        np.maximum(brightest, plane * np.exp(-step * before), out=brightest)
        before += plane
    return brightest


def project_map(
    values: np.ndarray, head: np.ndarray, view: View, spacing: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """The map's value that shows on each ray, and how near it is.

    It is the value of the largest size once all are weakened by their depth in the head.
    The value itself is the map's own, so that its colour is that of the colour bar; depth
    goes into the opacity.

    Parameters
    ----------
    values, head : array, shape (i, j, k), axes R, A, S
    view : View
    spacing : tuple of float

    Returns
    -------
    values, nearness : array, float32, shape (rows, columns)
        Nearness is 1 at the head's surface and falls with depth.
    """
    laid, inside = view.laid_out(values), view.laid_out(head)
    fall = np.float32(np.exp(-spacing[view.axis] / _MAP_DEPTH))
    near = np.ones(laid.shape[1:], np.float32)
    shown, nearness, strongest = (np.zeros_like(near) for _ in range(3))
    for plane, tissue in zip(laid, inside, strict=True):
        strength = np.abs(plane) * near
        better = strength > strongest
        shown[better], nearness[better] = plane[better], near[better]
        np.maximum(strongest, strength, out=strongest)
        near = np.where(tissue, near * fall, near)
    return shown, nearness
