"""Bring a volume onto a model's grid, and results back onto the scan's own grid.

The steps are: flips and permutations to the model's orientation, resampling to
its spacing, cropping or padding about the centre to its shape, and its
intensity rule. Each is left out where the model does not ask for it. All but
resampling are voxel-exact both ways.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff
from scipy import ndimage

from napari_cnnvis.errors import VolumeError, shortened
from napari_cnnvis.scan.intensity import checked_rules, scaled
from napari_cnnvis.scan.volume import Scan, Volume, channels_of, constant_note, orientation_change

__all__ = ["Conformed", "InputSpec", "conform"]


@dataclass(frozen=True)
class InputSpec:
    """What a model expects of its input; None means "as the scan is".

    Parameters
    ----------
    shape : (int, int, int), optional
        Voxels along the model's axes: scans are padded or cropped about their centre.
    spacing : (float, float, float), optional
        Millimetres between voxels along the model's axes.
    orientation : str, optional
        Where the model's axes point to, e.g. "RAS".
    intensity : str
        One of `INTENSITY_RULES`, "clip LOW HIGH", "window LOW HIGH", or several in the order
        they are applied: "mean, clip 0 8".
    channels : int
        Input channels: scans of one subject on one grid, each with its own intensities.
    window : (int, int, int), optional
        For networks trained on patches: the network is run on windows of this many
        voxels all over the scan, and its outputs are averaged. Goes without `shape`.
    overlap : float
        Share of a window that the next one covers as well, from 0 to below 1.
    resize : bool
        Stretch or shrink the whole scan to `shape` instead of padding or cropping it.

    Raises
    ------
    VolumeError
        If a value is not of this form.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> spec = cv.InputSpec((96, 112, 96), spacing=(2, 2, 2), orientation="RAS", intensity="z-score")
    >>> spec.shape
    (96, 112, 96)
    >>> cv.InputSpec(intensity="squared")
    Traceback (most recent call last):
        ...
    napari_cnnvis.errors.VolumeError: 'squared' is not an intensity rule; use one of max, range, z-score, percentile, none.
    """

    shape: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    orientation: str | None = None
    intensity: str = "max"
    channels: int = 1
    window: tuple[int, int, int] | None = None
    overlap: float = 0.5
    resize: bool = False

    def __post_init__(self) -> None:
        for what, kind in (("shape", int), ("spacing", float), ("window", int)):
            value = getattr(self, what)
            if value is not None:
                object.__setattr__(self, what, _three(value, kind, what))
        if self.orientation is not None:
            orientation_change(np.eye(4), str(self.orientation))
        checked_rules(self.intensity)
        if not isinstance(self.resize, bool):
            raise VolumeError(f"resize is {shortened(self.resize, 60)}; say True or False.")
        if not isinstance(self.channels, int) or self.channels < 1:
            raise VolumeError(f"{self.channels!r} input channels are not possible; give 1 or more.")
        if not isinstance(self.overlap, int | float) or not 0 <= self.overlap < 1:
            raise VolumeError(
                f"An overlap of {self.overlap!r} is not possible; give a share from 0 to below 1."
            )
        if self.window is not None and self.shape is not None:
            raise VolumeError(
                "Give the model's input either a shape (one pass over the cropped or padded scan) "
                "or a window (passes all over the scan), not both."
            )

    @property
    def net_shape(self) -> tuple[int, int, int] | None:
        """Voxels that the network itself sees at once, or None for a whole scan of any size."""
        return self.window or self.shape

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, as a checkpoint's header stores them."""
        return asdict(self)


def _three(value: Any, kind: type, what: str) -> tuple[Any, Any, Any]:
    """Three positive numbers, whole ones for `int`.

    Raises
    ------
    VolumeError
        If it is anything else.
    """
    try:
        given = [float(v) for v in value]
    except (TypeError, ValueError, OverflowError):
        given = []
    whole = kind is float or all(v.is_integer() for v in given)
    good = len(given) == 3 and whole and all(0 < v < np.inf for v in given)
    if isinstance(value, str) or not good:
        raise VolumeError(
            f"The model's input {what} {shortened(value, 60)} is not three positive numbers."
        )
    return tuple(kind(v) for v in given)


@dataclass(frozen=True, eq=False)
class Conformed:
    """A volume on a model's grid, and the way back.

    Attributes
    ----------
    data : array, float32, shape of the model's input
        After the intensity rule; the first channel.
    more_channels : tuple of array
        The other channels, if the model has several.
    affine : array, shape (4, 4)
        Voxels of the model's grid to RAS millimetres.
    notes : tuple of str
        What a user should know, e.g. that part of the scan is cropped.
    own_heads : tuple of (array of bool or None)
        For each channel the head mask that it carries, on this grid; a channel without
        one takes the first channel's.
    """

    data: np.ndarray
    affine: np.ndarray
    notes: tuple[str, ...]
    more_channels: tuple[np.ndarray, ...]
    _source_shape: tuple[int, int, int]
    _flips: np.ndarray
    _unflips: np.ndarray
    _oriented_shape: tuple[int, int, int]
    _sampled_shape: tuple[int, int, int]
    own_heads: tuple[np.ndarray | None, ...] = ()

    @property
    def heads(self) -> tuple[np.ndarray | None, ...]:
        """For each channel its scan's head mask; None where the head is to be found.

        Raises
        ------
        VolumeError
            If no voxel of a mask is where the network sees the scan.
        """
        if any(head is not None and not head.any() for head in self.own_heads):
            raise VolumeError(
                "The scan's head mask has no voxel where the network sees the scan, which it crops "
                "or resamples; give a larger mask, or one that lies elsewhere."
            )
        return self.own_heads

    @property
    def head(self) -> np.ndarray | None:
        """The first channel's of `heads`."""
        return self.heads[0]

    @property
    def channels(self) -> np.ndarray:
        """All channels, float32, shape (n_channels, i, j, k)."""
        return np.stack([self.data, *self.more_channels])

    @property
    def spacing(self) -> np.ndarray:
        """Millimetres between voxels along the model's axes."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def labels(self, labels: np.ndarray) -> np.ndarray:
        """A label volume of the scan's grid on the model's grid (nearest neighbour, 0 outside)."""
        labels = apply_orientation(np.asarray(labels), self._flips)
        labels = _resample(labels, self._sampled_shape, order=0)
        return np.ascontiguousarray(_crop_or_pad(labels, self.data.shape))

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """A mask of the scan's grid on the model's grid (nearest neighbour, False outside)."""
        return self.labels((np.asarray(mask) != 0).astype(np.uint8)) > 0

    def back(self, result: np.ndarray, order: int = 1) -> np.ndarray:
        """A result of the model's grid on the scan's grid, 0 where the model saw nothing.

        `order` 1 is trilinear, 0 takes the nearest voxel.
        """
        result = _crop_or_pad(np.asarray(result, dtype=np.float32), self._sampled_shape)
        result = _resample(result, self._oriented_shape, order=order)
        return np.ascontiguousarray(apply_orientation(result, self._unflips))


def conform(volume: Scan, spec: InputSpec) -> Conformed:
    """Bring a scan onto the grid that `spec` describes.

    Parameters
    ----------
    volume : Volume, or a sequence with one for each channel
    spec : InputSpec

    Returns
    -------
    Conformed

    Raises
    ------
    VolumeError
        If there are not as many volumes as channels, or they lie on different grids.
    """
    first, *others = channels_of(volume)
    if len(others) + 1 != spec.channels:
        raise VolumeError(
            f"The model takes {spec.channels} input channel(s), but {len(others) + 1} volume(s) "
            "were given; give one for each channel."
        )
    for other in others:
        if not other.same_grid(first):
            raise VolumeError(
                f"'{other.name}' is not on the grid of '{first.name}' (its shape or affine "
                "differ); register and resample it first."
            )
    conformed, *more = (_conform(one, spec) for one in (first, *others))
    notes = [*conformed.notes, *(note for one in more for note in one.notes)]
    own = [first.head, *(first.head if one.head is None else one.head for one in others)]
    return replace(
        conformed,
        more_channels=tuple(one.data for one in more),
        notes=tuple(dict.fromkeys(notes)),
        own_heads=tuple(None if head is None else conformed.mask(head) for head in own),
    )


def _conform(volume: Volume, spec: InputSpec) -> Conformed:
    notes = []
    affine = volume.affine
    flips = orientation_change(affine, volume.stored_orientation or volume.orientation)
    if spec.orientation is not None:
        if volume.orientation_known:
            flips = orientation_change(affine, spec.orientation)
        else:
            notes.append(
                f"The model expects {spec.orientation} axes, but '{volume.name}' does not say how "
                "it is oriented; it is taken as it is."
            )
    data = apply_orientation(volume.data, flips)
    affine = affine @ inv_ornt_aff(flips, volume.shape)
    oriented_shape = data.shape

    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    sampled_shape = oriented_shape
    if spec.resize and spec.shape is not None:
        sampled_shape = spec.shape
    elif spec.spacing is not None and not np.allclose(spacing, spec.spacing, rtol=1e-3):
        sampled_shape = tuple(
            max(1, round(n * s / t))
            for n, s, t in zip(oriented_shape, spacing, spec.spacing, strict=True)
        )
    if sampled_shape != oriented_shape:
        step = np.array(oriented_shape) / np.array(sampled_shape)
        data = _resample(data, sampled_shape, order=1)
        affine = affine @ _scaled_grid(step)
    shape = spec.shape or sampled_shape
    if spec.window is not None:
        shape = tuple(max(n, w) for n, w in zip(sampled_shape, spec.window, strict=True))
    start = [_centred_start(n, m) for n, m in zip(sampled_shape, shape, strict=True)]
    lost = _lost_content(data, shape)
    data = _crop_or_pad(data, shape)
    if lost > 0.005:
        notes.append(
            f"{lost:.1%} of '{volume.name}' (by intensity) is outside the model's "
            f"{' x '.join(map(str, shape))} voxels and is not seen by it."
        )
    shift = np.eye(4)
    shift[:3, 3] = start
    name = volume.name if spec.channels > 1 else ""
    empty = constant_note(volume.data, name)
    data = np.ascontiguousarray(scaled(data, spec.intensity), dtype=np.float32)
    if empty:
        notes.append(empty)
    elif constant_note(data):
        notes.append(
            f"What the model sees of '{volume.name}' is the same value everywhere ({data.flat[0]:g}), "
            "so what it says of it means nothing; check the model's input shape and intensities."
        )
    return Conformed(
        data=data,
        affine=affine @ shift,
        notes=tuple(notes),
        more_channels=(),
        _source_shape=volume.shape,
        _flips=flips,
        _unflips=_inverse_orientation(flips),
        _oriented_shape=oriented_shape,
        _sampled_shape=sampled_shape,
    )


def _inverse_orientation(flips: np.ndarray) -> np.ndarray:
    inverse = np.empty_like(flips)
    for axis, (target, sign) in enumerate(flips):
        inverse[int(target)] = axis, sign
    return inverse


def _scaled_grid(step: np.ndarray) -> np.ndarray:
    """Affine of a grid with the same outer edges whose cells are `step` times as wide."""
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = (step - 1) / 2
    return affine


def _resample(data: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    """Resample between grids with the same outer edges; edges extended, averaged before shrinking."""
    if data.shape == tuple(shape):
        return data
    step = np.array(data.shape) / np.array(shape)
    if order > 0 and (step > 1).any():
        data = ndimage.gaussian_filter(data, np.maximum(0, (step - 1) / 2), mode="nearest")
    return ndimage.affine_transform(
        data, step, offset=(step - 1) / 2, output_shape=tuple(shape), order=order, mode="nearest"
    )


def _crop_or_pad(data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Crop or zero-pad about the centre; applying it back with the old shape undoes it."""
    if data.shape == tuple(shape):
        return data
    result = np.zeros(shape, dtype=data.dtype)
    source, target = [], []
    for n, m in zip(data.shape, shape, strict=True):
        start = _centred_start(n, m)
        source.append(slice(max(start, 0), max(start, 0) + min(n, m)))
        target.append(slice(max(-start, 0), max(-start, 0) + min(n, m)))
    result[tuple(target)] = data[tuple(source)]
    return result


def _centred_start(n: int, m: int) -> int:
    """Where m voxels cropped from, or padded around, n voxels begin; undone by (m, n)."""
    return (n - m) // 2 if n >= m else -((m - n) // 2)


def _lost_content(data: np.ndarray, shape: tuple[int, ...]) -> float:
    """Share of the summed absolute intensity that cropping to `shape` removes."""
    total = float(np.abs(data).sum(dtype=np.float64))
    if total == 0 or all(n <= m for n, m in zip(data.shape, shape, strict=True)):
        return 0.0
    kept = float(np.abs(_crop_or_pad(data, shape)).sum(dtype=np.float64))
    return 1 - kept / total
