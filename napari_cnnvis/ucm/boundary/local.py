"""Local boundary strength: how much the intensities differ on the two sides of a voxel."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage

from napari_cnnvis.ucm.boundary.half_balls import DIRECTIONS, HalfBalls

__all__ = ["RADII", "local_boundary", "smooth_in_head"]

#: radii of the balls in millimetres: 2, 4 and 6 voxels of the reference's 2 mm grid
RADII = (4.0, 8.0, 12.0)
#: standard deviation of the smoothing and where it is cut off, in millimetres: a variance of
#: 3 voxels over 3 x 3 x 3 of them in the reference
SIGMA, CUT_OFF = 2 * 3**0.5, 2.0


def local_boundary(
    data: np.ndarray,
    spacing: Sequence[float],
    head: np.ndarray,
    radii: Sequence[float] = RADII,
    bins: int = 11,
    *,
    device: str | torch.device = "cpu",
    cancel: threading.Event | None = None,
) -> np.ndarray:
    """Chi-square distance between the histograms of opposite half-balls, in 13 directions.

    The volume is smoothed within the head and its intensities sorted into equal
    bins between their 1st and 99th percentiles, what lies beyond in the first and
    the last. For each direction and radius the plane normal to the direction
    parts the ball about a voxel; a voxel on the plane counts half to each side.
    With p and n the halves' histograms, each divided by its sum, the strength is
    the sum over radii of ``0.5 * sum((p - n)**2 / (p + n))``.

    Voxels outside the head are in no histogram, so that its edge is no boundary by
    itself. Where it cuts a ball, the distance counts in proportion to the smaller
    half, because a few voxels of the rim make a poor histogram.

    Parameters
    ----------
    data : array, shape (i, j, k)
    spacing : (float, float, float)
        Millimetres between voxels.
    head : array of bool, shape (i, j, k)
    radii : sequence of float
        Millimetres. A radius below the spacing of an axis does not look along it.
    bins : int
    device : str or torch.device
        Where the sums run.
    cancel : threading.Event, optional
        When set, stops before the next direction.

    Returns
    -------
    array, float32, shape (13, n)
        Strength at the n voxels of ``data[head]`` for each of `DIRECTIONS`,
        0 to ``len(radii)``.

    Raises
    ------
    Cancelled
        If cancelled.

    References
    ----------
    Yang, Sethi, Rangarajan and Ranka, Supervoxel-based segmentation of 3D
    volumetric images, ACCV 2016.
    """
    numbers = _bin_numbers(smooth_in_head(data, spacing, head), bins)
    if numbers is None:
        return np.zeros((len(DIRECTIONS), int(head.sum())), np.float32)
    with HalfBalls(head, spacing, max(radii), device=device, cancel=cancel) as balls:
        return _chi_squares(numbers, balls, radii).cpu().numpy()


def _chi_squares(numbers: np.ndarray, balls: HalfBalls, radii: Sequence[float]) -> torch.Tensor:
    bins = torch.from_numpy(np.unique(numbers)).to(balls.device)
    given = torch.from_numpy(numbers).to(balls.device)
    rows = torch.cat([torch.ones_like(given, dtype=torch.bool)[None], given == bins[:, None]])
    spectra = balls.spectra(rows)
    totals = [[row.round_() for row in balls.sums(spectra, radius)] for radius in radii]
    strength = torch.zeros((len(DIRECTIONS), balls.n), device=balls.device)

    def add_up(direction: int) -> None:
        for radius, (count, *total) in zip(radii, totals, strict=True):
            rows = balls.differences(spectra, radius, direction)
            ahead, behind, trust = balls.halves(count, next(rows), radius)
            chi_square = torch.zeros_like(trust)
            for sum_, difference in zip(total, rows, strict=True):
                p = (sum_ + difference.round_()).div_(ahead)
                n = sum_.sub(difference).div_(behind)
                chi_square += (p - n).square_().div_(p.add_(n).clamp_(min=1e-12))
            strength[direction] += chi_square.mul_(trust).mul_(0.5)

    balls.each_direction(add_up)
    return strength


def smooth_in_head(
    data: np.ndarray, spacing: Sequence[float], head: np.ndarray, sigma: float = SIGMA
) -> np.ndarray:
    """Gaussian mean over the voxels of the head around, cut off at 2 mm along each axis.

    Parameters
    ----------
    data : array, shape (i, j, k)
    spacing : (float, float, float)
        Millimetres between voxels.
    head : array of bool, shape (i, j, k)
    sigma : float
        Millimetres.

    Returns
    -------
    array, float32, shape (n,)
        At the voxels of ``data[head]``.
    """
    if not head.any():
        return np.zeros(0, np.float32)
    box = ndimage.find_objects(head.astype(np.uint8))[0]
    weights = head[box].astype(np.float32)
    values = np.where(head[box], data[box], 0).astype(np.float32)
    for axis, step in enumerate(spacing):
        reach = int(CUT_OFF / step + 1e-6)
        gaussian = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / sigma) ** 2)
        values = ndimage.correlate1d(values, gaussian, axis, mode="constant")
        weights = ndimage.correlate1d(weights, gaussian, axis, mode="constant")
    return values[head[box]] / weights[head[box]]


def _bin_numbers(values: np.ndarray, bins: int) -> np.ndarray | None:
    """Number of the bin of each value; None where all values are one."""
    if values.size == 0:
        return None
    rounding = 1e-5 * float(np.abs(values).max())
    for low, high in (np.percentile(values, (1, 99)), (values.min(), values.max())):
        if high - low > rounding:
            break
    else:
        return None
    numbers = (values - low) * (bins / (high - low))
    return numbers.clip(0, bins - 1).astype(np.int64)
