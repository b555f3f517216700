"""Small random changes of a batch, on the device it is on."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Augmentation"]


class Augmentation:
    """Left-right flips, small affine maps, contrast, brightness and noise.

    Scans are turned by up to 5 degrees about each axis, scaled by up to 5 % and shifted
    by up to 2 % of the field of view; contrast (a gamma of 0.85 to 1.15) and brightness
    (up to 10 %) change, and noise with up to 2 % of the brightest voxel is added. Voxels
    that are 0 (no brain) stay 0.

    Parameters
    ----------
    flip_axis : int
        The axis of a volume (0 to 2) that runs from left to right.
    """

    def __init__(self, flip_axis: int = 0) -> None:
        self._flip_axis = flip_axis

    def __call__(self, x: Tensor) -> Tensor:
        """A changed copy of `x` (n, channels, i, j, k), each scan by itself."""
        n, device = len(x), x.device
        matrix = _rotations(n, device) * (1 + _within(0.05, (n, 1, 3), device))
        flip = torch.where(torch.rand(n, device=device) < 0.5, -1.0, 1.0)
        matrix[:, :, 2 - self._flip_axis] *= flip[:, None]  # grids count from the last axis
        place = torch.cat([matrix, _within(0.04, (n, 3, 1), device)], dim=2)
        grid = F.affine_grid(place, list(x.shape), align_corners=False)
        moved = F.grid_sample(x, grid.to(x.dtype), align_corners=False)
        peak = moved.amax(dim=(1, 2, 3, 4), keepdim=True).clamp(min=1e-6)
        each = (n, 1, 1, 1, 1)
        gamma = 1 + _within(0.15, each, device)
        contrasted = peak * (moved.clamp(min=0) / peak) ** gamma
        changed = torch.where(moved > 0, contrasted, moved) * (1 + _within(0.1, each, device))
        noise = 0.02 * torch.rand(each, device=device) * peak * torch.randn_like(moved)
        return torch.where(moved == 0, moved, changed + noise)


def _within(limit: float, shape: tuple[int, ...], device: torch.device) -> Tensor:
    return limit * (2 * torch.rand(shape, device=device) - 1)


def _rotations(n: int, device: torch.device) -> Tensor:
    """(n, 3, 3), about each axis in turn by up to 5 degrees."""
    angles = _within(math.radians(5), (n, 3), device)
    result = torch.eye(3, device=device).expand(n, 3, 3)
    for axis in range(3):
        a, b = [k for k in range(3) if k != axis]
        turn = torch.eye(3, device=device).repeat(n, 1, 1)
        cos, sin = angles[:, axis].cos(), angles[:, axis].sin()
        turn[:, a, a], turn[:, b, b] = cos, cos
        turn[:, a, b], turn[:, b, a] = -sin, sin
        result = result @ turn
    return result
