"""Steps that change intensities, in the arithmetic of MONAI (float32, by torch)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.scan.moves import Move
from napari_cnnvis.scan.steps.step import (
    InputStep,
    argument,
    number,
    numbers,
    optional,
    yes_or_no,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ClipIntensityPercentiles", "NormalizeIntensity", "ScaleIntensity", "ScaleIntensityRange",
    "ScaleIntensityRangePercentiles", "ThresholdIntensity",
]  # fmt: skip

#: of more voxels, MONAI takes percentiles with numpy, in float64
_LARGEST_QUANTILE = 1_000_000


@dataclass(frozen=True, repr=False)
class _ValueStep(InputStep):
    def apply(self, data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, Move | None]:
        """The same grid, other intensities."""
        import torch

        x = torch.from_numpy(np.ascontiguousarray(data, dtype=np.float32))
        if getattr(self, "channel_wise", False):
            changed = torch.stack([self._changed(one, n, len(x)) for n, one in enumerate(x)])
        else:
            changed = self._changed(x, 0, 1)
        return changed.to(torch.float32).numpy(), None

    def _changed(self, x: Tensor, channel: int, n_channels: int) -> Tensor:
        """`x` after this step; all channels of a scan, or this one of so many."""
        raise NotImplementedError


def _percent(value: Any) -> float:
    if not 0 <= number(value) <= 100:
        raise ValueError
    return number(value)


@dataclass(frozen=True, repr=False)
class ScaleIntensity(_ValueStep):
    """Minimum..maximum to minv..maxv, or times 1 + factor if both are None."""

    minv: float | None = argument(optional(number), 0)
    maxv: float | None = argument(optional(number), 1)
    factor: float | None = argument(optional(number), None)
    channel_wise: bool = argument(yes_or_no, False)

    def _changed(self, x: Tensor, channel: int, n_channels: int) -> Tensor:
        if self.minv is None and self.maxv is None:
            return x if self.factor is None else x * (1 + self.factor)
        low, high = x.min(), x.max()
        if low == high:
            return x if self.minv is None else x * self.minv
        x = (x - low) / (high - low)
        if self.minv is None or self.maxv is None:
            return x
        return x * (self.maxv - self.minv) + self.minv


@dataclass(frozen=True, repr=False)
class ScaleIntensityRange(_ValueStep):
    """a_min..a_max to b_min..b_max."""

    a_min: float = argument(number)
    a_max: float = argument(number)
    b_min: float | None = argument(optional(number), None)
    b_max: float | None = argument(optional(number), None)
    clip: bool = argument(yes_or_no, False)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_clip(self, self.b_min, self.b_max, self.clip)

    def _changed(self, x: Tensor, channel: int, n_channels: int) -> Tensor:
        return _scaled_range(x, self.a_min, self.a_max, self.b_min, self.b_max, self.clip)


@dataclass(frozen=True, repr=False)
class ScaleIntensityRangePercentiles(_ValueStep):
    """As ScaleIntensityRange, from percentiles of the scan."""

    lower: float = argument(_percent)
    upper: float = argument(_percent)
    b_min: float | None = argument(optional(number))
    b_max: float | None = argument(optional(number))
    clip: bool = argument(yes_or_no, False)
    relative: bool = argument(yes_or_no, False)
    channel_wise: bool = argument(yes_or_no, False)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_clip(self, self.b_min, self.b_max, self.clip)
        if self.relative and (self.b_min is None or self.b_max is None):
            raise VolumeError(f"The step {self} needs numbers for b_min and b_max.")

    def _changed(self, x: Tensor, channel: int, n_channels: int) -> Tensor:
        low, high = self.b_min, self.b_max
        if self.relative and low is not None and high is not None:
            low, high = ((high - low) * (one / 100) + low for one in (self.lower, self.upper))
        ends = _percentile(x, self.lower), _percentile(x, self.upper)
        return _scaled_range(x, *ends, low, high, self.clip)


@dataclass(frozen=True, repr=False)
class ClipIntensityPercentiles(_ValueStep):
    """Cut off at percentiles of the scan."""

    lower: float | None = argument(optional(_percent))
    upper: float | None = argument(optional(_percent))
    channel_wise: bool = argument(yes_or_no, False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lower is None and self.upper is None:
            raise VolumeError(f"The step {self} needs a number for lower or upper.")
        if (0 if self.lower is None else self.lower) > (100 if self.upper is None else self.upper):
            raise VolumeError(f"In the step {self}, lower is above upper; exchange them.")

    def _changed(self, x: Tensor, channel: int, n_channels: int) -> Tensor:
        low = _percentile(x, 0 if self.lower is None else self.lower)
        high = _percentile(x, 100 if self.upper is None else self.upper)
        return x.clamp(low, high)


@dataclass(frozen=True, repr=False)
class ThresholdIntensity(_ValueStep):
    """Voxels above (or below) a threshold are kept, others become `cval`."""

    threshold: float = argument(number)
    above: bool = argument(yes_or_no, True)
    cval: float = argument(number, 0)

    def _changed(self, x: Tensor, channel: int, n_channels: int) -> Tensor:
        return x.where(x > self.threshold if self.above else x < self.threshold, self.cval)


@dataclass(frozen=True, repr=False)
class NormalizeIntensity(_ValueStep):
    """Less the mean, over the standard deviation, or less and over what is given."""

    subtrahend: float | tuple[float, ...] | None = argument(optional(numbers), None)
    divisor: float | tuple[float, ...] | None = argument(optional(numbers), None)
    nonzero: bool = argument(yes_or_no, False)
    channel_wise: bool = argument(yes_or_no, False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for given in (self.subtrahend, self.divisor):
            if given is not None and isinstance(given, tuple) != self.channel_wise:
                raise VolumeError(
                    f"In the step {self}, subtrahend and divisor have to be lists, a number for "
                    "each channel, with channel_wise=True, and single numbers without."
                )

    def _changed(self, x: Tensor, channel: int, n_channels: int) -> Tensor:
        inside = x != 0 if self.nonzero else None
        values = x if inside is None else x[inside]
        if values.numel() == 0:
            return x
        less = self._given(self.subtrahend, channel, n_channels)
        over = self._given(self.divisor, channel, n_channels)
        less = values.mean().item() if less is None else less
        over = values.std(correction=0).item() if over is None else over
        values = (values - less) / (over or 1.0)
        return values if inside is None else x.masked_scatter(inside, values)

    def _given(self, value: Any, channel: int, n_channels: int) -> float | None:
        if not isinstance(value, tuple):
            return value
        if len(value) != n_channels:
            raise VolumeError(
                f"The step {self} is for {len(value)} channel(s), but the model takes {n_channels}."
            )
        return value[channel]


def _check_clip(step: InputStep, low: float | None, high: float | None, clip: bool) -> None:
    if clip and low is None and high is None:
        raise VolumeError(f"The step {step} clips, so it needs b_min, b_max or both.")


def _scaled_range(
    x: Tensor, a_min: Any, a_max: Any, low: float | None, high: float | None, clip: bool
) -> Tensor:
    if a_max - a_min == 0:
        return x - a_min if low is None else x - a_min + low
    x = (x - a_min) / (a_max - a_min)
    if low is not None and high is not None:
        x = x * (high - low) + low
    return x.clamp(low, high) if clip else x


def _percentile(x: Tensor, percent: float) -> Tensor:
    import torch

    if x.numel() > _LARGEST_QUANTILE:
        return torch.tensor(np.percentile(x.numpy(), percent), dtype=x.dtype)
    return torch.quantile(x, torch.tensor(percent / 100, dtype=x.dtype))
