"""Steps that change the grid: axes, voxel size, crops and padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.scan.moves import Cut, Move, Turn
from napari_cnnvis.scan.steps.step import (
    InputStep,
    Sizes,
    argument,
    choice,
    number,
    of_each_axis,
    optional,
    size,
    whole,
    yes_or_no,
)
from napari_cnnvis.scan.volume import orientation_change

__all__ = [
    "BorderPad", "CenterSpatialCrop", "CropForeground", "DivisiblePad", "Orientation",
    "ResizeWithPadOrCrop", "SpatialPad",
]  # fmt: skip

_ANY: Sizes = ((1, math.inf),) * 3
#: numpy's names for torch's
_PADDING = {"replicate": "edge", "circular": "wrap"}
_padding = choice(
    "constant", "edge", "replicate", "reflect", "symmetric", "wrap", "circular", "minimum"
)


def _axcodes(value: Any) -> str:
    letters = "".join(value)
    orientation_change(np.eye(4), letters)
    return letters


@dataclass(frozen=True, repr=False)
class Orientation(InputStep):
    """Axes flipped and permuted, such as to "RAS"."""

    axcodes: str = argument(_axcodes)

    def apply(self, data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, Move | None]:
        """No value changes."""
        move = Turn(orientation_change(affine, self.axcodes), data.shape[1:])
        if move.is_none:
            return data, None
        return np.stack([move.forward(one) for one in data]), move

    def sizes(self, before: Sizes) -> Sizes:
        """Which axis is which is not known."""
        return ((min(low for low, _ in before), max(high for _, high in before)),) * 3


@dataclass(frozen=True, repr=False)
class _Padding(InputStep):
    """A cut that may pad, with values by `mode`."""

    def apply(self, data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, Move | None]:
        """Voxels are cropped or added, none changes."""
        first, last = self._cut(data)
        mode, value = getattr(self, "mode", "constant"), getattr(self, "value", 0)
        return _cut_to(data, first, last, mode, value)

    def _cut(self, data: np.ndarray) -> tuple[list[int], list[int]]:
        """Where the new grid begins and ends, in voxels of the old one."""
        raise NotImplementedError


@dataclass(frozen=True, repr=False)
class CenterSpatialCrop(_Padding):
    """Cropped about the centre; no axis grows."""

    roi_size: tuple[int, int, int] = argument(size)

    def _cut(self, data: np.ndarray) -> tuple[list[int], list[int]]:
        return _centre_crop(data.shape[1:], self.roi_size)

    def sizes(self, before: Sizes) -> Sizes:
        """At most `roi_size`."""
        return _each(before, self.roi_size, min)


@dataclass(frozen=True, repr=False)
class SpatialPad(_Padding):
    """Padded to a size; no axis shrinks."""

    spatial_size: tuple[int, int, int] = argument(size)
    method: str = argument(choice("symmetric", "end"), "symmetric")
    mode: str = argument(_padding, "constant")
    value: float = argument(number, 0)

    def _cut(self, data: np.ndarray) -> tuple[list[int], list[int]]:
        return _pad_to(data.shape[1:], self.spatial_size, self.method)

    def sizes(self, before: Sizes) -> Sizes:
        """At least `spatial_size`."""
        return _each(before, self.spatial_size, max)


@dataclass(frozen=True, repr=False)
class ResizeWithPadOrCrop(_Padding):
    """Cropped about the centre, then padded to a size."""

    spatial_size: tuple[int, int, int] = argument(size)
    method: str = argument(choice("symmetric", "end"), "symmetric")
    mode: str = argument(_padding, "constant")
    value: float = argument(number, 0)

    def _cut(self, data: np.ndarray) -> tuple[list[int], list[int]]:
        crop, _ = _centre_crop(data.shape[1:], self.spatial_size)
        left = [
            min(n, m) if m > 0 else n
            for n, m in zip(data.shape[1:], self.spatial_size, strict=True)
        ]
        pad, end = _pad_to(left, self.spatial_size, self.method)
        return [c + p for c, p in zip(crop, pad, strict=True)], [
            c + e for c, e in zip(crop, end, strict=True)
        ]

    def sizes(self, before: Sizes) -> Sizes:
        """`spatial_size`."""
        return _each(_each(before, self.spatial_size, min), self.spatial_size, max)


@dataclass(frozen=True, repr=False)
class DivisiblePad(_Padding):
    """Padded to multiples of `k`."""

    k: tuple[int, int, int] = argument(size)
    mode: str = argument(_padding, "constant")
    method: str = argument(choice("symmetric", "end"), "symmetric")
    value: float = argument(number, 0)

    def _cut(self, data: np.ndarray) -> tuple[list[int], list[int]]:
        return _pad_to(data.shape[1:], _divisible(data.shape[1:], self.k), self.method)

    def sizes(self, before: Sizes) -> Sizes:
        """More than before."""
        low, high = (_divisible([pair[end] for pair in before], self.k) for end in (0, 1))
        return tuple(zip(low, high, strict=True))


def _border(value: Any) -> tuple[int, ...]:
    given = tuple(value) if isinstance(value, list | tuple) else (value,) * 3
    if len(given) not in (1, 3, 6):
        raise ValueError
    given = given * 3 if len(given) == 1 else given
    return tuple(max(0, whole(v)) for v in given)


@dataclass(frozen=True, repr=False)
class BorderPad(_Padding):
    """Padded on each side: one number, one for each axis, or before and after on each axis."""

    spatial_border: tuple[int, ...] = argument(_border)
    mode: str = argument(_padding, "constant")
    value: float = argument(number, 0)

    def _cut(self, data: np.ndarray) -> tuple[list[int], list[int]]:
        first, last = self._sides()
        ends = [n + more for n, more in zip(data.shape[1:], last, strict=True)]
        return [-less for less in first], ends

    def _sides(self) -> tuple[Sequence[int], Sequence[int]]:
        given = self.spatial_border
        return (given, given) if len(given) == 3 else (given[::2], given[1::2])

    def sizes(self, before: Sizes) -> Sizes:
        """The border more."""
        more = [sum(pair) for pair in zip(*self._sides(), strict=True)]
        return tuple((low + m, high + m) for (low, high), m in zip(before, more, strict=True))


def _channels(value: Any) -> tuple[int, ...]:
    return tuple(whole(v) for v in (value if isinstance(value, list | tuple) else (value,)))


@dataclass(frozen=True, repr=False)
class CropForeground(_Padding):
    """Cropped to the box around the voxels above `threshold`.

    `threshold` stands for MONAI's ``select_fn=lambda x: x > threshold``.
    """

    threshold: float = argument(number, 0)
    channel_indices: tuple[int, ...] | None = argument(optional(_channels), None)
    margin: tuple[int, int, int] = argument(of_each_axis(whole), (0, 0, 0))
    allow_smaller: bool = argument(yes_or_no, False)
    k_divisible: tuple[int, int, int] = argument(size, (1, 1, 1))
    mode: str = argument(_padding, "constant")
    value: float = argument(number, 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.margin) < 0:
            raise VolumeError(f"The step {self} cannot have a margin below 0.")

    def _cut(self, data: np.ndarray) -> tuple[list[int], list[int]]:
        chosen = data
        if self.channel_indices is not None:
            if not all(-len(data) <= n < len(data) for n in self.channel_indices):
                raise VolumeError(
                    f"The step {self} needs more channels than the {len(data)} given."
                )
            chosen = data[list(self.channel_indices)]
        inside: np.ndarray = np.any(chosen > self.threshold, axis=0)
        if not inside.any():
            raise VolumeError(
                f"The step {self} crops to the voxels above {self.threshold:g}, but the scan has "
                "none; it is empty, or an earlier step does not suit it."
            )
        first, last = [], []
        for axis in range(3):
            others = tuple(a for a in range(3) if a != axis)
            found = np.flatnonzero(inside.any(axis=others))
            low, high = int(found[0]) - self.margin[axis], int(found[-1]) + self.margin[axis] + 1
            if self.allow_smaller:
                low, high = max(low, 0), min(high, inside.shape[axis])
            (width,) = _divisible([high - low], [self.k_divisible[axis]])
            low -= (width - (high - low)) // 2
            first.append(low)
            last.append(low + width)
        return first, last

    def along(self, data: np.ndarray, box: Cut | None) -> tuple[np.ndarray, Move | None]:
        """Another scan, cut as the one that `box` was found in."""
        if box is None:
            return data, None
        last = [s + n for s, n in zip(box.start, box.after, strict=True)]
        return _cut_to(data, box.start, last, self.mode, self.value)

    def sizes(self, before: Sizes) -> Sizes:
        """Depends on the scan."""
        return _ANY


def _cut_to(
    data: np.ndarray, first: Sequence[int], last: Sequence[int], mode: str, value: float
) -> tuple[np.ndarray, Move | None]:
    shape = data.shape[1:]
    after = tuple(e - s for s, e in zip(first, last, strict=True))
    if not any(first) and after == shape:
        return data, None
    inside = tuple(slice(max(s, 0), max(e, 0)) for s, e in zip(first, last, strict=True))
    kept = data[(slice(None), *inside)]
    pads = [(max(-s, 0), max(e - n, 0)) for s, e, n in zip(first, last, shape, strict=True)]
    if any(map(any, pads)):
        more = {"constant_values": value} if mode == "constant" else {}
        kept = np.pad(kept, [(0, 0), *pads], mode=_PADDING.get(mode, mode), **more)  # type: ignore[call-overload]
    return np.ascontiguousarray(kept), Cut(tuple(first), shape, after)


def _centre_crop(shape: Sequence[int], roi: Sequence[int]) -> tuple[list[int], list[int]]:
    first, last = [], []
    for n, asked in zip(shape, roi, strict=True):
        m = asked if asked > 0 else n
        first.append(max(n // 2 - m // 2, 0))
        last.append(min(first[-1] + m, n))
    return first, last


def _pad_to(
    shape: Sequence[int], wanted: Sequence[int], method: str
) -> tuple[list[int], list[int]]:
    more = [max(m - n, 0) for n, m in zip(shape, wanted, strict=True)]
    first = [-(m // 2) if method == "symmetric" else 0 for m in more]
    return first, [n + s + m for n, s, m in zip(shape, first, more, strict=True)]


def _divisible(shape: Sequence[Any], k: Sequence[int]) -> list[Any]:
    return [
        math.ceil(n / d) * d if d > 0 and n != math.inf else n
        for n, d in zip(shape, k, strict=True)
    ]


def _each(before: Sizes, asked: Sequence[int], end: Any) -> Sizes:
    """The ends of each axis after `end`, min or max, with what is asked for; 0 asks nothing."""
    return tuple(
        (low, high) if m <= 0 else (end(low, m), end(high, m))
        for (low, high), m in zip(before, asked, strict=True)
    )
