"""Globalised boundary strength (gPb): local and spectral boundaries together."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage

from napari_cnnvis.ucm.boundary.local import local_boundary
from napari_cnnvis.ucm.boundary.spectral import spectral_boundary

__all__ = ["globalised_boundary"]

#: voxels finer than this are taken together in blocks, in millimetres (the reference's grid)
_VOXEL = 2.0


def globalised_boundary(
    data: np.ndarray,
    spacing: Sequence[float],
    head: np.ndarray,
    *,
    device: str | torch.device = "cpu",
    cancel: threading.Event | None = None,
) -> np.ndarray:
    """Boundary strength of 3DUCM: intensities on either side, and what normalised cuts part.

    Local and spectral strength are each divided by their maximum and averaged for
    each of 13 directions; a voxel's strength is that of its strongest direction. Scans
    finer than 2 mm are averaged over blocks of about 2 mm first, as the radii of the
    method (4 mm and more) resolve no less, and the strength is interpolated back.

    Parameters
    ----------
    data : array, float32, shape (i, j, k)
        Divided by its 99th percentile in the head.
    spacing : (float, float, float)
        Millimetres between voxels.
    head : array of bool, shape (i, j, k)
        The edge of the head is no boundary by itself.
    device : str or torch.device
        Where half-balls are summed. The same input gives the same bits on the same device
        with the same number of threads.
    cancel : threading.Event, optional
        When set, stops soon.

    Returns
    -------
    array, float32, shape (i, j, k)
        0 to 1; 0 outside the head, and everywhere if the head has one intensity.

    Raises
    ------
    Cancelled
        If cancelled.

    References
    ----------
    Yang, Sethi, Rangarajan and Ranka, Supervoxel-based segmentation of 3D
    volumetric images, ACCV 2016.
    """
    strength = np.zeros(head.shape, np.float32)
    if not head.any():
        return strength
    box = ndimage.find_objects(head.astype(np.uint8))[0]
    inside = head[box]
    block = tuple(max(1, round(_VOXEL / step)) for step in spacing)
    if max(block) == 1:
        strength[box][inside] = _at_voxels(data[box], spacing, inside, device, cancel)
        return strength
    weight = _block_means(inside.astype(np.float32), block)
    coarse_head = weight > 0
    coarse_data = _block_means(np.where(inside, data[box], 0), block) / np.maximum(weight, 1e-6)
    coarse = np.zeros(weight.shape, np.float32)
    coarse_spacing = [n * step for n, step in zip(block, spacing, strict=True)]
    coarse[coarse_head] = _at_voxels(coarse_data, coarse_spacing, coarse_head, device, cancel)
    grid = [(np.arange(n) + 0.5) / b - 0.5 for n, b in zip(inside.shape, block, strict=True)]
    where = np.stack([c[inside] for c in np.meshgrid(*grid, indexing="ij")])
    strength[box][inside] = ndimage.map_coordinates(coarse, where, order=1, mode="nearest")
    return strength


def _at_voxels(
    data: np.ndarray,
    spacing: Sequence[float],
    head: np.ndarray,
    device: str | torch.device,
    cancel: threading.Event | None,
) -> np.ndarray:
    """gPb of each voxel in the head, shape (n,)."""
    local = local_boundary(data, spacing, head, device=device, cancel=cancel)
    spectral = spectral_boundary(local, spacing, head, device=device, cancel=cancel)
    both = np.sum([part / max(float(part.max()), 1e-12) for part in (local, spectral)], axis=0)
    return 0.5 * both.max(0)


def _block_means(values: np.ndarray, block: Sequence[int]) -> np.ndarray:
    """Means over blocks of voxels; what the last blocks lack counts as 0."""
    padded = np.pad(values, [(0, -n % b) for n, b in zip(values.shape, block, strict=True)])
    shape = [part for n, b in zip(padded.shape, block, strict=True) for part in (n // b, b)]
    return padded.reshape(shape).mean(axis=(1, 3, 5), dtype=np.float32)
