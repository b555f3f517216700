"""Steps that resample, by torch on MONAI's grids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage, special

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.scan.moves import Move, Sample, scaled_grid
from napari_cnnvis.scan.steps.step import (
    InputStep,
    Sizes,
    argument,
    choice,
    number,
    numbers,
    optional,
    size,
    yes_or_no,
)

__all__ = ["Resize", "Spacing"]

#: below which MONAI takes two affines, or two voxel sizes, for the same
_SAME = 1e-3
_LINEAR = ("linear", "bilinear", "trilinear")


def _pixdim(value: Any) -> tuple[float, ...]:
    given = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not 1 <= len(given) <= 3:
        raise ValueError
    return tuple(number(v) for v in (*given, *[given[-1]] * (3 - len(given))))


@dataclass(frozen=True, repr=False)
class Spacing(InputStep):
    """Resampled to a voxel size in mm; one of 0 or below is kept."""

    pixdim: tuple[float, float, float] = argument(_pixdim)
    mode: str = argument(choice("bilinear", "nearest"), "bilinear")
    padding_mode: str = argument(choice("border", "zeros", "reflection"), "border")
    align_corners: bool = argument(yes_or_no, False)
    dtype: str = argument(choice("float64", "float32"), "float64")

    def apply(self, data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, Move | None]:
        """As MONAI's Spacing, the new grid beginning at the first voxel's centre."""
        shape = data.shape[1:]
        target, after = self._grid(affine, shape)
        matrix = np.linalg.solve(affine, target)
        same = np.allclose(affine, target, atol=_SAME) or np.allclose(matrix, np.eye(4), atol=_SAME)
        if same and after == shape:
            return data, None
        sampled = _pulled(
            data, matrix, after, self.mode, self.padding_mode, self.align_corners, self.dtype
        )
        return sampled, Sample(matrix, shape, after)

    def _grid(self, affine: np.ndarray, shape: Sequence[int]) -> tuple[np.ndarray, tuple[int, ...]]:
        """The affine and shape after it; shears are left out."""
        linear = affine[:3, :3]
        now = np.linalg.norm(linear, axis=0)
        wanted = np.array(self.pixdim, float)
        wanted = np.where((np.abs(now - wanted) <= _SAME) | (wanted <= 0), now, wanted)
        zooms = np.linalg.cholesky(linear.T @ linear).T
        turned = linear @ np.linalg.inv(zooms) @ np.diag(np.sign(np.diag(zooms)) * wanted)
        target = np.eye(4)
        target[:3, :3] = turned
        # in MONAI's order of operations: a rounding decides where a size ends in .5
        ends = np.meshgrid(*[(0.0, n - 1.0) for n in shape], indexing="ij")
        corners = np.concatenate([np.reshape(ends, (3, -1)), np.ones((1, 8))])
        moved = (np.linalg.solve(target, affine) @ corners)[:3]
        after = np.round(np.ptp(moved, axis=1) + 1.0)
        least = [
            n for n in range(8) if np.allclose((moved - moved[:, [n]]).min(axis=1), 0, rtol=_SAME)
        ]
        if least:
            target[:3, 3] = (affine @ corners)[:3, least[0]]
        else:
            target[:3, 3] = linear @ (np.array(shape) / 2) + affine[:3, 3] - turned @ (after / 2)
        return target, tuple(int(n) for n in after)

    def sizes(self, before: Sizes) -> Sizes:
        """Depends on the scan."""
        return ((1, math.inf),) * 3


@dataclass(frozen=True, repr=False)
class Resize(InputStep):
    """Stretched or shrunk to a size."""

    spatial_size: tuple[int, int, int] = argument(size)
    size_mode: str = argument(choice("all", "longest"), "all")
    mode: str = argument(choice("area", "nearest", "nearest-exact", *_LINEAR), "area")
    align_corners: bool | None = argument(optional(yes_or_no), None)
    anti_aliasing: bool = argument(yes_or_no, False)
    anti_aliasing_sigma: float | tuple[float, ...] | None = argument(optional(numbers), None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.align_corners is not None and self.mode not in _LINEAR:
            raise VolumeError(f"The step {self} cannot have align_corners; only linear modes can.")
        if self.size_mode == "longest" and (
            len(set(self.spatial_size)) > 1 or self.spatial_size[0] <= 0
        ):
            raise VolumeError(f"The step {self} needs one size above 0, that of the longest axis.")
        sigma = self.anti_aliasing_sigma
        if isinstance(sigma, tuple) and len(sigma) != 3:
            raise VolumeError(f"The step {self} needs one anti_aliasing_sigma, or three.")

    def apply(self, data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, Move | None]:
        """As MONAI's Resize."""
        import torch
        from torch.nn.functional import interpolate

        shape = data.shape[1:]
        after = self._size(shape)
        if after == shape:
            return data, None
        if self.anti_aliasing:
            data = _smoothed(data, self._sigmas(shape, after))
        x = torch.from_numpy(np.ascontiguousarray(data))[None]
        mode = "trilinear" if self.mode in _LINEAR else self.mode
        resized = interpolate(x, after, mode=mode, align_corners=self.align_corners)
        return resized[0].numpy(), Sample(self._matrix(shape, after), shape, after)

    def _size(self, shape: Sequence[int]) -> tuple[int, ...]:
        if self.size_mode == "longest":
            scale = self.spatial_size[0] / max(shape)
            return tuple(round(n * scale) for n in shape)
        return tuple(m if m > 0 else n for n, m in zip(shape, self.spatial_size, strict=True))

    def _sigmas(self, shape: Sequence[int], after: Sequence[int]) -> list[float]:
        factors = np.array(shape) / np.array(after)
        if self.anti_aliasing_sigma is None:
            return np.maximum(0, (factors - 1) / 2).tolist()
        return (np.broadcast_to(self.anti_aliasing_sigma, 3) * (factors > 1)).tolist()

    def _matrix(self, before: Sequence[int], after: Sequence[int]) -> np.ndarray:
        matrix = scaled_grid(before, after)
        if self.align_corners:
            for axis, (n, m) in enumerate(zip(before, after, strict=True)):
                if n > 1 and m > 1:
                    matrix[axis, axis], matrix[axis, 3] = (n - 1) / (m - 1), 0
        return matrix

    def sizes(self, before: Sizes) -> Sizes:
        """`spatial_size`."""
        if self.size_mode == "longest":
            return ((1, self.spatial_size[0]),) * 3
        return tuple(
            (m, m) if m > 0 else ends for ends, m in zip(before, self.spatial_size, strict=True)
        )


def _pulled(
    data: np.ndarray,
    matrix: np.ndarray,
    shape: Sequence[int],
    mode: str,
    padding: str,
    align: bool,
    dtype: str,
) -> np.ndarray:
    """Voxels at ``matrix @ voxel``, as torch's grid_sample takes them."""
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    x = torch.from_numpy(np.ascontiguousarray(data))[None].to(getattr(torch, dtype))
    # multiplied by torch as in MONAI: a rounding decides which voxels are just outside
    units, back = _to_unit(data.shape[1:], align), np.linalg.inv(_to_unit(shape, align))
    factors = [torch.from_numpy(one)[None].to(x) for one in (units, matrix, back)]
    theta = factors[0] @ factors[1] @ factors[2]
    theta = theta[:, [2, 1, 0]][:, :, [2, 1, 0, 3]]  # torch counts axes from the last
    grid = affine_grid(theta, [*x.shape[:2], *shape], align)
    pulled = grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=align)
    return pulled[0].to(torch.float32).numpy()


def _to_unit(shape: Sequence[int], align: bool) -> np.ndarray:
    """Voxels to torch's coordinates from -1 to 1."""
    n = np.array(shape, float)
    matrix = np.eye(4)
    if align:
        matrix[:3, :3] = np.diag(2 / (np.where(n <= 1, 2, n) - 1))
        matrix[:3, 3] = -1
    else:
        matrix[:3, :3] = np.diag(2 / n)
        matrix[:3, 3] = 1 / n - 1
    return matrix


def _smoothed(data: np.ndarray, sigmas: Sequence[float]) -> np.ndarray:
    """By a Gaussian integrated over voxels, 0 outside, as MONAI's GaussianSmooth."""
    for axis, sigma in enumerate(sigmas):
        if sigma > 0:
            tail = int(max(sigma * 4.0, 0.5) + 0.5)
            edges = (np.arange(-tail, tail + 2) - 0.5) / (sigma * math.sqrt(2))
            kernel = np.diff(special.erf(edges)) / 2
            data = ndimage.correlate1d(data, kernel, axis + 1, mode="constant")
    return data
