"""Changed boxes of a layer's output for many regions at once, and the clean output around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

__all__ = ["Kept", "Patch", "box_slices", "convolve", "paste", "pool_all"]


@dataclass(frozen=True, eq=False)
class Patch:
    """What one layer gives inside a box, for n regions; outside it is as in the clean volume.

    Attributes
    ----------
    values : Tensor, shape (n, channels, d, h, w)
    low : array, int64, shape (n, 3)
        Where each box begins.
    high : array, int64, shape (n, 3)
        Behind what a region can have changed; the box, of one size for all regions,
        may reach further.
    """

    values: Tensor
    low: np.ndarray
    high: np.ndarray

    @property
    def size(self) -> np.ndarray:
        """Positions of the box along each axis, shape (3,)."""
        return np.array(self.values.shape[2:])

    def covers(self, grid: np.ndarray) -> bool:
        """Whether the box is the whole grid."""
        return bool((self.size == grid).all())


class Kept:
    """A layer's output for the clean volume, with a margin, to cut boxes from.

    Stored channels last, so that a position's channels lie together and are copied at once.

    Parameters
    ----------
    clean : Tensor, shape (1, channels, d, h, w)
    before, after : array, shape (3,)
        Width of the margin.
    fill : float
        What the margin holds.
    """

    def __init__(self, clean: Tensor, before: np.ndarray, after: np.ndarray, fill: float) -> None:
        channels, *grid = clean.shape[1:]
        self._grid = tuple(grid)
        self._before = np.asarray(before)
        self._padded = tuple(int(n) for n in np.array(grid) + before + after)
        rows = clean.new_full((*self._padded, channels), fill)
        inside = tuple(slice(int(b), int(b) + n) for b, n in zip(before, grid, strict=True))
        rows[inside] = clean[0].permute(1, 2, 3, 0)
        self._volume = rows
        self._rows = rows.view(-1, channels)
        #: the output itself, (1, channels, d, h, w); not to be written into
        self.volume = rows[inside].permute(3, 0, 1, 2)[None]
        self._pooled: dict[str, Tensor] = {}

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._volume.nbytes

    def pooled(self, how: str) -> Tensor:
        """Mean or maximum of each channel, (1, channels)."""
        if how not in self._pooled:
            self._pooled[how] = pool_all(self.volume, how)
        return self._pooled[how]

    def gather(self, low: np.ndarray, size: Sequence[int] | np.ndarray) -> Tensor:
        """Copies of the boxes that begin at `low` (n, 3), which may reach into the margin.

        Returns
        -------
        Tensor, shape (n, channels, *size)
        """
        n, sides = len(low), tuple(int(s) for s in size)
        if sides == self._grid and not low.any():
            return _arranged(self.volume.expand(n, *self.volume.shape[1:]).clone())
        low = low + self._before
        if n == 1:
            values = self._volume[box_slices(low[0], np.array(sides))].clone(
                memory_format=torch.contiguous_format
            )[None]
        else:
            _, height, width = self._padded
            starts = torch.from_numpy((low[:, 0] * height + low[:, 1]) * width + low[:, 2])
            offsets = _offsets(sides, height, width, self._rows.device)
            index = starts.to(self._rows.device)[:, None] + offsets
            values = self._rows.index_select(0, index.view(-1)).view(n, *sides, -1)
        return _arranged(values.permute(0, 4, 1, 2, 3))


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1, 1),
    padding: Sequence[int] = (0, 0, 0),
    dilation: Sequence[int] = (1, 1, 1),
    groups: int = 1,
) -> Tensor:
    """``conv3d``, by oneDNN on the CPU.

    torch sends small inputs of one region to a kernel of its own, which is about ten times
    slower than oneDNN's.
    """
    if x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        return torch.mkldnn_convolution(x, weight, bias, padding, stride, dilation, groups)
    return torch.conv3d(x, weight, bias, stride, padding, dilation, groups)


def paste(into: Tensor, values: Tensor, offsets: np.ndarray) -> None:
    """Write boxes (n, channels, ...) into others, each at its own offset (n, 3).

    What hangs over an end is left out.
    """
    size, room = np.array(values.shape[2:]), np.array(into.shape[2:])
    if (offsets == offsets[0]).all():
        first = np.maximum(-offsets[0], 0)
        size = np.minimum(size, room - offsets[0]) - first
        if (size > 0).all():
            inner = values[(slice(None), slice(None), *box_slices(first, size))]
            into[(slice(None), slice(None), *box_slices(offsets[0] + first, size))] = inner
        return
    if (offsets < 0).any() or (offsets + size > room).any():
        for row in range(len(values)):
            paste(into[row : row + 1], values[row : row + 1], offsets[row : row + 1])
        return
    steps = [n - s + 1 for n, s in zip(into.shape[2:], size, strict=True)]
    batch, channel, *space = into.stride()
    shape = (len(values), *steps, *size, values.shape[1])
    windows = into.as_strided(shape, (batch, *space, *space, channel), into.storage_offset())
    z, y, x = torch.from_numpy(np.ascontiguousarray(offsets.T)).to(into.device)
    windows[torch.arange(len(values), device=into.device), z, y, x] = values.permute(0, 2, 3, 4, 1)


def pool_all(x: Tensor, how: str) -> Tensor:
    """The "mean" or "max" over all positions, (n, channels)."""
    return x.mean((2, 3, 4)) if how == "mean" else x.amax((2, 3, 4))


def box_slices(low: np.ndarray, size: np.ndarray) -> tuple[slice, ...]:
    """The three slices of a box."""
    return tuple(slice(int(a), int(a) + int(s)) for a, s in zip(low, size, strict=True))


def _arranged(values: Tensor) -> Tensor:
    """In the memory layout in which convolutions are fastest on the device."""
    if values.device.type == "cpu":
        return values.contiguous(memory_format=torch.channels_last_3d)
    return values.contiguous()


@lru_cache(maxsize=256)
def _offsets(size: tuple[int, ...], height: int, width: int, device: torch.device) -> Tensor:
    """Row numbers of a box's positions, counted from its first."""
    z, y, x = (torch.arange(n, device=device) for n in size)
    return ((z[:, None, None] * height + y[:, None]) * width + x).view(-1)
