"""The head, or the skull-stripped brain, in a scan: the one mask that everything uses.

It is the scan's own mask where it carries one (`Volume.with_head`), and else found. Real scans have no clean background. Air is noisy; resampling a skull-stripped brain leaves a
faint halo, or rings of either sign; a z-scored scan has a background below zero, an inverted one
a bright background; a defaced head has a hole in its face; a bed or a coil is in the picture.
So what the background is like is read off the scan's border, and what is head is what differs
from it by more than noise and halo do, in one solid piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from napari_cnnvis.errors import VolumeError

__all__ = ["find_head", "head_of"]

#: share of the tissue's distance from the background below which it is halo, not head
_HALO = 0.2
#: the same for scans whose tissue lies on both sides of an exact background
_HALO_BOTH_SIDES = 0.02
#: noise of the border above this share of the tissue's distance is tissue that fills the picture
_NO_BACKGROUND = 0.5
#: so much of the border beside an exact background is tissue where the picture cuts through it
_CUT = 0.2
#: so much of the border of one exact value is a background that a program has written
_EXACT = 0.25
#: the solid part is looked for on a grid of at most so many positions
_COARSE = 2_000_000
#: what is thinner than twice this share of the picture's side is no head: beds, coils, straps
_THIN = 0.03
#: how much of a cut through the head is brighter than the background
_SOLID_CUT = 0.65


class _WithHead(Protocol):
    """A `Volume`, or a `Conformed` one."""

    @property
    def data(self) -> np.ndarray: ...

    @property
    def head(self) -> np.ndarray | None: ...


def head_of(scan: _WithHead) -> np.ndarray:
    """The head of a scan: the mask that it carries, or else what `find_head` finds.

    Parameters
    ----------
    scan : Volume or Conformed

    Returns
    -------
    array, bool, shape (i, j, k)

    Raises
    ------
    VolumeError
        If the scan carries no mask and is constant, or no voxel of its mask is on the
        network's grid.
    """
    given = scan.head
    return find_head(scan.data) if given is None else given


def find_head(data: np.ndarray) -> np.ndarray:
    """The head (or the skull-stripped brain), without holes.

    Parameters
    ----------
    data : array, shape (i, j, k)
        A scan with any background: exact, noisy, with a halo, below or above the tissue.

    Returns
    -------
    array, bool, shape (i, j, k)
        All voxels where the picture has no background.

    Raises
    ------
    VolumeError
        If the volume is constant.

    Examples
    --------
    >>> scan = np.zeros((20, 20, 20))
    >>> scan[5:15, 5:15, 5:15] = 100
    >>> int(find_head(scan).sum())
    1000
    """
    if data.min() == data.max():
        raise VolumeError("The volume has one value everywhere; there is nothing to segment.")
    bright = _unlike_background(data)
    step = int(np.ceil((data.size / _COARSE) ** (1 / 3)))
    if step == 1:
        return _solid(bright)
    coarse = _solid(_mostly(bright, step))
    hull, inner = (
        _enlarged(mask, step, data.shape) for mask in (_grown(coarse, 1), ~_grown(~coarse, 1))
    )
    return _filled(_largest((bright & hull) | inner), bright)


# --- what is not background ----------------------------------------------------------------


def _unlike_background(data: np.ndarray) -> np.ndarray:
    """Voxels that differ from the background by more than its noise and a halo."""
    border = _border(data)
    level, exact = _level(border)
    difference = data.astype(np.float32) - np.float32(level)
    distance = np.abs(difference)
    sample = distance.ravel()[:: max(1, data.size // 200_000)]
    split = threshold_otsu(np.minimum(sample, np.percentile(sample, 99.5)))
    tissue = float(np.median(sample[sample > split])) if (sample > split).any() else 0.0
    if tissue == 0.0:  # a few bright voxels, and nothing else
        return distance > 0
    off = np.abs(border - level)
    off = off[off > 0]
    tissue_there = off.size > 0 and (off > split).mean() > _CUT
    noise = 0.0 if exact and tissue_there else _noise(off, split)
    if noise > _NO_BACKGROUND * tissue:
        if not exact:
            return np.ones(data.shape, bool)
        noise = 0.0
    above, below = np.count_nonzero(difference > split), np.count_nonzero(difference < -split)
    if exact and min(above, below) > 0.05 * (above + below):
        return _closed(distance > max(noise, _HALO_BOTH_SIDES * tissue), 1)
    return distance > max(noise, _HALO * tissue)


def _border(data: np.ndarray) -> np.ndarray:
    """Values on the six faces."""
    return np.concatenate([np.take(data, end, axis).ravel() for axis, end in _faces()])


def _faces() -> Iterator[tuple[int, int]]:
    return ((axis, end) for axis in range(3) for end in (0, -1))


def _level(border: np.ndarray) -> tuple[float, bool]:
    """The background's value, and whether it is one exact value.

    The most frequent value, or else the half-sample mode: the middle of the densest values.
    """
    values, counts = np.unique(border, return_counts=True)
    if counts.max() > _EXACT * border.size:
        return float(values[counts.argmax()]), True
    dense = np.sort(border.astype(np.float64))
    while dense.size > 3:
        half = (dense.size + 1) // 2
        first = int((dense[half - 1 :] - dense[: dense.size - half + 1]).argmin())
        dense = dense[first : first + half]
        if dense[0] == dense[-1]:
            break
    return float(dense.mean()), False


def _noise(distance: np.ndarray, split: float) -> float:
    """How far the border's noise reaches; 0 if it has none."""
    noise = distance[distance < split]
    if noise.size == 0:
        return 0.0
    middle = float(np.median(noise))
    reach = middle + 4 * 1.4826 * float(np.median(np.abs(noise - middle)))
    return max(reach, float(np.percentile(noise, 90))) if reach > 0 else 0.0


# --- one solid piece -----------------------------------------------------------------------


def _solid(bright: np.ndarray) -> np.ndarray:
    """The largest piece with what it encloses, without thin things that touch it."""
    radius = max(1, round(_THIN * float(np.median(bright.shape))))
    everywhere, place = bright, _place_of(bright)
    bright = bright[place]
    parts = _large_parts(bright)
    joined = parts[0]
    for part in parts[1:]:  # such as scalp and brain, with dark skull between them
        if (_grown(joined, 2 * radius) & part).any():
            joined = joined | part
    head = _filled(joined, bright)
    if joined is not parts[0]:
        head = _filled(head | ~_grown(~_filled(_closed(joined, radius), bright), 2), bright)
    core = ~_grown(~head, radius)
    if core.any():
        head &= _grown(_largest(core), radius + 1.5)
    head = _largest(head)
    found = np.zeros_like(everywhere)
    found[place] = head
    return found


def _place_of(mask: np.ndarray) -> tuple[slice, ...]:
    """The box around a mask, with a margin of one voxel where there is room."""
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    return tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)


def _large_parts(mask: np.ndarray) -> list[np.ndarray]:
    """Connected pieces, the largest first, as long as they are no specks beside it."""
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    order = np.argsort(sizes)[::-1][: min(count, 6)]
    return [labels == k for k in order if sizes[k] > 0.02 * sizes.max()]


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()


def _filled(mask: np.ndarray, bright: np.ndarray) -> np.ndarray:
    """Holes filled; where the picture cuts through the head, the cut is a lid.

    A ring on a face is no cut unless most of what is in it is bright: a coil has air inside.
    """
    padded = np.pad(mask, 1)
    for axis, end in _faces():
        face = np.take(mask, end, axis)
        if not face.any():
            continue
        disc = ndimage.binary_fill_holes(face)
        if np.take(bright, end, axis)[disc].mean() > _SOLID_CUT:
            place: list[slice | int] = [slice(1, -1)] * 3
            place[axis] = end
            padded[tuple(place)] = disc
    return ndimage.binary_fill_holes(padded)[1:-1, 1:-1, 1:-1]


def _grown(mask: np.ndarray, radius: float) -> np.ndarray:
    """All within `radius` voxels of a mask; what is outside the picture is as its edge."""
    if not mask.any():
        return mask
    return ndimage.distance_transform_edt(~mask) <= radius


def _closed(mask: np.ndarray, radius: int) -> np.ndarray:
    """Gaps of up to twice the radius closed."""
    padded = np.pad(mask, 2 * radius)
    closed = ~_grown(~_grown(padded, radius), radius)
    inside = slice(2 * radius, -2 * radius)
    return closed[inside, inside, inside] | mask


# --- coarse and fine -----------------------------------------------------------------------


def _mostly(mask: np.ndarray, step: int) -> np.ndarray:
    """On a grid `step` times as coarse: where most voxels of a cell are in the mask."""
    padded = np.pad(mask, [(0, -n % step) for n in mask.shape], mode="edge")
    shape = [m for n in padded.shape for m in (n // step, step)]
    return padded.reshape(shape).mean(axis=(1, 3, 5), dtype=np.float32) >= 0.3


def _enlarged(mask: np.ndarray, step: int, shape: tuple[int, ...]) -> np.ndarray:
    """Back to the fine grid."""
    for axis in range(3):
        mask = np.repeat(mask, step, axis)
    return mask[tuple(slice(n) for n in shape)]
