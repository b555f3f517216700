"""Bring a volume onto a model's grid, and results back onto the scan's own grid.

This is: the steps that the model lists, if it does; else flips and permutations to its
orientation and resampling to its spacing. Then cropping or padding about the centre to its
shape, and its intensity rule. Each is left out where the model does not ask for it. All
but resampling are voxel-exact both ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from napari_cnnvis.errors import VolumeError, shortened
from napari_cnnvis.scan.intensity import checked_rules, scaled
from napari_cnnvis.scan.moves import Cut, Move, Sample, Turn, scaled_grid
from napari_cnnvis.scan.steps.grids import CropForeground, Orientation
from napari_cnnvis.scan.steps.step import InputStep
from napari_cnnvis.scan.steps.text import as_line, fixed_shape, read_steps
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
    intensity : str, optional
        One of `INTENSITY_RULES`, "clip LOW HIGH", "window LOW HIGH", or several in the order
        they are applied: "mean, clip 0 8". By default "max", or "none" where there are `steps`.
    channels : int
        Input channels: scans of one subject on one grid, each with its own intensities.
    window : (int, int, int), optional
        For networks trained on patches: the network is run on windows of this many
        voxels all over the scan, and its outputs are averaged. Goes without `shape`.
    overlap : float
        Share of a window that the next one covers as well, from 0 to below 1.
    resize : bool
        Stretch or shrink the whole scan to `shape` instead of padding or cropping it.
    steps : str or sequence, optional
        MONAI's transforms with their arguments, done first and in this order, exactly as MONAI
        does them: "Orientation('RAS'), Spacing((1, 1, 1)), ScaleIntensity()". They go without
        `spacing`, `orientation` and `resize`; `shape` is what they end in, if that is fixed.

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
    >>> cv.InputSpec(steps="ScaleIntensity(), Resize((64, 64, 48), mode='trilinear')").shape
    (64, 64, 48)
    """

    shape: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    orientation: str | None = None
    intensity: str | None = None
    channels: int = 1
    window: tuple[int, int, int] | None = None
    overlap: float = 0.5
    resize: bool = False
    steps: tuple[InputStep, ...] = ()

    def __post_init__(self) -> None:
        for what, kind in (("shape", int), ("spacing", float), ("window", int)):
            value = getattr(self, what)
            if value is not None:
                object.__setattr__(self, what, _three(value, kind, what))
        if self.orientation is not None:
            orientation_change(np.eye(4), str(self.orientation))
        if not isinstance(self.resize, bool):
            raise VolumeError(f"resize is {shortened(self.resize, 60)}; say True or False.")
        object.__setattr__(self, "steps", read_steps(self.steps))
        if self.intensity is None:
            object.__setattr__(self, "intensity", "none" if self.steps else "max")
        checked_rules(str(self.intensity))
        if self.steps and (self.spacing or self.orientation or self.resize):
            raise VolumeError(
                f"The input's steps ({shortened(as_line(self.steps), 100)}) go without another "
                "voxel size, orientation or scaling to a size; change the steps, or leave them out."
            )
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
        if self.window is None and self.shape is None:
            object.__setattr__(self, "shape", fixed_shape(self.steps))

    @property
    def net_shape(self) -> tuple[int, int, int] | None:
        """Voxels that the network itself sees at once, or None for a whole scan of any size."""
        return self.window or self.shape

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, as a checkpoint's header stores them."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        del values["steps"]  # said only where there are some, as earlier versions did not know them
        return {**values, "steps": [str(step) for step in self.steps]} if self.steps else values


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
    moves : tuple of Move
        From the scan's grid to this one, in order.
    boxes : tuple of (Cut or None)
        The crops that follow from what is in the scan, None where nothing is cut.
    own_heads : tuple of (array of bool or None)
        For each channel the head mask that it carries, on this grid; a channel without
        one takes the first channel's.
    """

    data: np.ndarray
    affine: np.ndarray
    notes: tuple[str, ...]
    more_channels: tuple[np.ndarray, ...]
    moves: tuple[Move, ...]
    boxes: tuple[Cut | None, ...] = ()
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
        labels = np.asarray(labels)
        for move in self.moves:
            labels = move.forward(labels)
        return np.ascontiguousarray(labels)

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """A mask of the scan's grid on the model's grid (nearest neighbour, False outside)."""
        return self.labels((np.asarray(mask) != 0).astype(np.uint8)) > 0

    def back(self, result: np.ndarray, order: int = 1) -> np.ndarray:
        """A result of the model's grid on the scan's grid, 0 where the model saw nothing.

        `order` 1 is trilinear, 0 takes the nearest voxel.
        """
        return _back(self.moves, np.asarray(result, dtype=np.float32), order)


def conform(volume: Scan, spec: InputSpec, like: Conformed | None = None) -> Conformed:
    """Bring a scan onto the grid that `spec` describes.

    Parameters
    ----------
    volume : Volume, or a sequence with one for each channel
    spec : InputSpec
    like : Conformed, optional
        Another scan of the same grid, brought to `spec`: this one is turned and cropped as that
        one, also where steps crop to a scan's own foreground.

    Returns
    -------
    Conformed

    Raises
    ------
    VolumeError
        If there are not as many volumes as channels, they lie on different grids, or a step
        does not suit them.
    """
    volumes = channels_of(volume)
    first, *others = volumes
    if len(volumes) != spec.channels:
        raise VolumeError(
            f"The model takes {spec.channels} input channel(s), but {len(volumes)} volume(s) "
            "were given; give one for each channel."
        )
    for other in others:
        if not other.same_grid(first):
            raise VolumeError(
                f"'{other.name}' is not on the grid of '{first.name}' (its shape or affine "
                "differ); register and resample it first."
            )
    turn: Move = Turn(
        orientation_change(first.affine, first.stored_orientation or first.orientation),
        first.shape,
    )
    if like is not None:
        turn = like.moves[0]
    data = np.stack([turn.forward(one.data) for one in volumes])
    moves: list[Move] = [turn]
    boxes: list[Cut | None] = []
    notes = []
    steps = spec.steps or ((Orientation(spec.orientation),) if spec.orientation else ())
    for step in steps:
        if isinstance(step, Orientation) and not first.orientation_known:
            notes.append(
                f"The model expects {step.axcodes} axes, but '{first.name}' does not say how "
                "it is oriented; it is taken as it is."
            )
            continue
        if isinstance(step, CropForeground) and like is not None:
            data, move = step.along(data, like.boxes[len(boxes)])
        else:
            data, move = step.apply(data, _affine(first, moves))
        if isinstance(step, CropForeground):
            boxes.append(move if isinstance(move, Cut) else None)
        if 0 in data.shape:
            raise VolumeError(f"Nothing of '{first.name}' is left after the step {step}.")
        moves += [move] if move is not None else []
    if spec.steps:
        seen = _back(moves, np.ones(data.shape[1:], np.float32), 0) > 0
        for one in volumes:
            notes += _lost_note(one, one.data, one.data[seen], data.shape[1:])
    stretch = _stretch(data.shape[1:], _affine(first, moves), spec)
    if stretch is not None:
        data = np.stack([stretch.forward(one, order=1) for one in data])
        moves.append(stretch)
    cut = _cut(data.shape[1:], spec)
    for one, whole in zip(volumes, data, strict=True):
        notes += _lost_note(one, whole, cut.back(cut.forward(whole)), cut.after)
    moves.append(cut)
    affine = _affine(first, moves)
    channels = []
    for one, sampled in zip(volumes, data, strict=True):
        values = scaled(cut.forward(sampled), str(spec.intensity))
        channels.append(np.ascontiguousarray(values, dtype=np.float32))
        notes += _content_notes(one, channels[-1], one.name if len(volumes) > 1 else "")
    own = [first.head, *(first.head if one.head is None else one.head for one in others)]
    conformed = Conformed(
        data=channels[0],
        affine=affine,
        notes=tuple(dict.fromkeys(notes)),
        more_channels=tuple(channels[1:]),
        moves=tuple(moves),
        boxes=tuple(boxes),
    )
    heads = tuple(None if head is None else conformed.mask(head) for head in own)
    return replace(conformed, own_heads=heads)


def _affine(volume: Volume, moves: Sequence[Move]) -> np.ndarray:
    """Voxels after these moves to RAS millimetres."""
    import torch

    affine = torch.from_numpy(volume.affine)
    for move in moves:  # multiplied by torch as in MONAI, for the same roundings
        affine = affine @ torch.from_numpy(np.array(move.matrix))
    return affine.numpy()


def _back(moves: Sequence[Move], result: np.ndarray, order: int) -> np.ndarray:
    for move in reversed(moves):
        result = move.back(result, order)
    return np.ascontiguousarray(result)


def _stretch(shape: tuple[int, ...], affine: np.ndarray, spec: InputSpec) -> Sample | None:
    """To the model's voxel size, or to its shape; the outer edges stay where they are."""
    after = shape
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spec.resize and spec.shape is not None:
        after = spec.shape
    elif spec.spacing is not None and not np.allclose(spacing, spec.spacing, rtol=1e-3):
        after = tuple(
            max(1, round(n * s / t)) for n, s, t in zip(shape, spacing, spec.spacing, strict=True)
        )
    return None if after == shape else Sample(scaled_grid(shape, after), shape, after)


def _cut(shape: tuple[int, ...], spec: InputSpec) -> Cut:
    """To the model's shape, or to one window at least."""
    after = spec.shape or shape
    if spec.window is not None:
        after = tuple(max(n, w) for n, w in zip(shape, spec.window, strict=True))
    return Cut.centred(shape, after)


def _content_notes(volume: Volume, data: np.ndarray, name: str) -> list[str]:
    """What is said of a scan without content, or of which the model sees none."""
    empty = constant_note(volume.data, name)
    if empty:
        return [empty]
    if constant_note(data):
        return [
            f"What the model sees of '{volume.name}' is the same value everywhere ({data.flat[0]:g}), "
            "so what it says of it means nothing; check the model's input shape and intensities."
        ]
    return []


def _lost_note(
    volume: Volume, whole: np.ndarray, kept: np.ndarray, shape: tuple[int, ...]
) -> list[str]:
    """Says if much of the summed absolute intensity is cropped."""
    total, left = (float(np.abs(part).sum(dtype=np.float64)) for part in (whole, kept))
    lost = 1 - left / total if total else 0
    if lost <= 0.005:
        return []
    return [
        f"{lost:.1%} of '{volume.name}' (by intensity) is outside the model's "
        f"{' x '.join(map(str, shape))} voxels and is not seen by it."
    ]
