"""Moves from one grid to another, and back: turning axes, cutting and padding, resampling.

What a network gets is a scan after several of them; a map goes back through them in the
opposite order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff
from scipy import ndimage

__all__ = ["Cut", "Move", "Sample", "Shape", "Turn", "centred_start", "scaled_grid"]

Shape = tuple[int, ...]

_AS_STORED = np.array([[0, 1], [1, 1], [2, 1]])


@dataclass(frozen=True, eq=False)
class Turn:
    """Axes flipped and permuted.

    Parameters
    ----------
    flips : array, shape (3, 2)
        As nibabel's `apply_orientation` takes them.
    before : (int, int, int)
        Voxels along the axes before.
    """

    flips: np.ndarray
    before: Shape

    @property
    def is_none(self) -> bool:
        """Whether the axes stay as they are."""
        return np.array_equal(self.flips, _AS_STORED)

    @property
    def matrix(self) -> np.ndarray:
        """Voxels after to voxels before."""
        return inv_ornt_aff(self.flips, self.before)

    def forward(self, data: np.ndarray) -> np.ndarray:
        """A volume after it."""
        return apply_orientation(data, self.flips)

    def back(self, data: np.ndarray, order: int = 1) -> np.ndarray:
        """A volume before it."""
        inverse = np.empty_like(self.flips)
        for axis, (target, sign) in enumerate(self.flips):
            inverse[int(target)] = axis, sign
        return apply_orientation(data, inverse)


@dataclass(frozen=True, eq=False)
class Cut:
    """Cropped or padded with zeros, along each axis.

    Parameters
    ----------
    start : (int, int, int)
        The voxel where the new grid begins, below 0 where it is padded.
    before, after : (int, int, int)
        Voxels along the axes.
    """

    start: tuple[int, ...]
    before: Shape
    after: Shape

    @classmethod
    def centred(cls, before: Shape, after: Sequence[int]) -> Cut:
        """About the centre; cutting back is the same with the shapes exchanged."""
        start = tuple(centred_start(n, m) for n, m in zip(before, after, strict=True))
        return cls(start, tuple(before), tuple(after))

    @property
    def matrix(self) -> np.ndarray:
        """Voxels after to voxels before."""
        shift = np.eye(4)
        shift[:3, 3] = self.start
        return shift

    def forward(self, data: np.ndarray) -> np.ndarray:
        """A volume after it, 0 where it is padded."""
        return _cut(data, self.start, self.after)

    def back(self, data: np.ndarray, order: int = 1) -> np.ndarray:
        """A volume before it, 0 where it was cropped."""
        return _cut(data, tuple(-s for s in self.start), self.before)


@dataclass(frozen=True, eq=False)
class Sample:
    """Resampled.

    Parameters
    ----------
    matrix : array, shape (4, 4)
        Voxels after to voxels before.
    before, after : (int, int, int)
        Voxels along the axes.
    """

    matrix: np.ndarray
    before: Shape
    after: Shape

    def forward(self, data: np.ndarray, order: int = 0) -> np.ndarray:
        """A volume after it: the nearest voxel, or trilinear with `order` 1."""
        return _sampled(data, self.matrix, self.after, order)

    def back(self, data: np.ndarray, order: int = 1) -> np.ndarray:
        """A volume before it."""
        return _sampled(data, np.linalg.inv(self.matrix), self.before, order)


Move = Turn | Cut | Sample


def centred_start(n: int, m: int) -> int:
    """Where m voxels cropped from, or padded around, n voxels begin; undone by (m, n)."""
    return (n - m) // 2 if n >= m else -((m - n) // 2)


def scaled_grid(before: Sequence[int], after: Sequence[int]) -> np.ndarray:
    """Voxels of a grid of `after` voxels with the same outer edges, to voxels of `before`."""
    step = np.array(before) / np.array(after)
    matrix = np.diag([*step, 1.0])
    matrix[:3, 3] = (step - 1) / 2
    return matrix


def _cut(data: np.ndarray, start: tuple[int, ...], shape: Shape) -> np.ndarray:
    if not any(start) and data.shape == tuple(shape):
        return data
    result = np.zeros(shape, dtype=data.dtype)
    source, target = [], []
    for n, m, s in zip(data.shape, shape, start, strict=True):
        first, last = max(s, 0), max(min(n, s + m), 0)
        source.append(slice(first, last))
        target.append(slice(first - s, max(last, first) - s))
    result[tuple(target)] = data[tuple(source)]
    return result


def _sampled(data: np.ndarray, matrix: np.ndarray, shape: Shape, order: int) -> np.ndarray:
    """Averaged before shrinking; the edges extended by a voxel, 0 beyond."""
    linear, offset = matrix[:3, :3], matrix[:3, 3]
    step = np.linalg.norm(linear, axis=1)
    if order > 0 and (step > 1).any():
        data = ndimage.gaussian_filter(data, np.maximum(0, (step - 1) / 2), mode="nearest")
    steps = np.diag(linear)
    straight = np.allclose(linear, np.diag(steps), rtol=0, atol=1e-9)
    return ndimage.affine_transform(
        np.pad(data, 1, mode="edge"),
        steps if straight else linear,
        offset=offset + 1,
        output_shape=tuple(shape),
        order=order,
        mode="grid-constant",
    )
