"""What an occluded voxel becomes: a number, the scan without its detail, another scan ..."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from napari_cnnvis.explain.parameter import check_baselines
from napari_cnnvis.scan.head import find_head

__all__ = [
    "BLUR_SIGMA",
    "Baseline",
    "BorderBaseline",
    "ImageBaseline",
    "make_baseline",
    "make_baselines",
]

#: width of the blur baseline in millimetres
BLUR_SIGMA = 12.0


class Baseline(ABC):
    """Replaces voxels of a volume on the model's grid.

    Attributes
    ----------
    replaces : array, bool, shape (i, j, k)
        The voxels that it changes at all.
    """

    replaces: np.ndarray

    @abstractmethod
    def values(self, voxels: np.ndarray) -> np.ndarray:
        """What voxels (flat indices, all of them replaced) of one region become, float32.

        Shape (n_voxels,), or (n_channels, n_voxels) for scans of several channels.
        """


class ImageBaseline(Baseline):
    """Voxels are taken from another image of the same shape."""

    def __init__(self, data: np.ndarray, image: np.ndarray) -> None:
        self.image = image
        self.replaces = image != data

    def values(self, voxels: np.ndarray) -> np.ndarray:
        return self.image.reshape(-1)[voxels]


class BorderBaseline(Baseline):
    """A region becomes the mean of the head's voxels that touch it by a face."""

    def __init__(self, data: np.ndarray, head: np.ndarray) -> None:
        self.replaces = head
        self._data = np.pad(data, 1)
        self._head = np.pad(head, 1).reshape(-1)
        self._inside = np.zeros(self._head.shape, bool)
        self._shape = data.shape
        self._overall = np.float32(data[head].mean())
        _, height, width = self._data.shape
        steps = np.array([1, width, height * width])
        self._steps = np.concatenate([steps, -steps])

    def values(self, voxels: np.ndarray) -> np.ndarray:
        place = np.ravel_multi_index(
            [axis + 1 for axis in np.unravel_index(voxels, self._shape)], self._data.shape
        )
        self._inside[place] = True
        around = (place[:, None] + self._steps).ravel()
        around = np.unique(around[self._head[around] & ~self._inside[around]])
        self._inside[place] = False
        mean = self._data.reshape(-1)[around].mean() if around.size else self._overall
        return np.full(len(voxels), mean, np.float32)


def make_baseline(
    data: np.ndarray,
    baseline: float | str | np.ndarray,
    spacing: Sequence[float] | np.ndarray,
    sigma: float = BLUR_SIGMA,
    head: np.ndarray | None = None,
) -> Baseline:
    """What occluded voxels are replaced by.

    Parameters
    ----------
    data : array, float32, shape (i, j, k)
        The volume as the network sees it.
    baseline : float, "blur", "border", "noise" or array
        A number is used everywhere, in the units of `data`. The named ones change the
        head only, so that an empty background stays as it is: "blur" is a Gaussian mean
        over the voxels of the head around (the edge of a skull-stripped brain is not
        darkened); "border" the mean of the head's voxels just outside the region;
        "noise" normal noise with the head's mean and deviation, the same in each run.
        An array is another volume as the network would see it.
    spacing : (float, float, float)
        Millimetres between voxels.
    sigma : float
        Width of the Gaussian in millimetres.
    head : array of bool, shape (i, j, k), optional
        The voxels that are the head's; found in `data` by default.

    Raises
    ------
    MethodError
        If it is none of these.
    """
    if isinstance(baseline, np.ndarray):
        return ImageBaseline(data, baseline)
    (named,) = check_baselines(baseline)
    if isinstance(named, float):
        return ImageBaseline(data, np.full(data.shape, named, np.float32))
    if head is None:
        head = np.ones(data.shape, bool) if np.ptp(data) == 0 else find_head(data)
    if named == "border":
        return BorderBaseline(data, head)
    if named == "noise":
        noise = np.random.default_rng(0).normal(data[head].mean(), data[head].std(), data.shape)
        return ImageBaseline(data, np.where(head, noise, data).astype(np.float32))
    weight = head.astype(np.float32)
    widths = [sigma / s for s in spacing]
    total = ndimage.gaussian_filter(data * weight, widths, mode="nearest", truncate=3)
    share = ndimage.gaussian_filter(weight, widths, mode="nearest", truncate=3)
    blurred = np.where(head, total / np.maximum(share, 1e-6), data)
    return ImageBaseline(data, blurred.astype(np.float32))


class ChannelBaselines(Baseline):
    """A baseline for each channel; a region is replaced in all of them.

    Where only some channels have a head, the others stay as they are.
    """

    def __init__(self, data: np.ndarray, channels: Sequence[Baseline]) -> None:
        self._data = data.reshape(len(data), -1)
        self._channels = [(c, c.replaces.reshape(-1)) for c in channels]
        self.replaces = np.any([c.replaces for c in channels], axis=0)

    def values(self, voxels: np.ndarray) -> np.ndarray:
        result = self._data[:, voxels]
        for row, (baseline, replaces) in zip(result, self._channels, strict=True):
            replaced = replaces[voxels]
            if replaced.any():
                row[replaced] = baseline.values(voxels[replaced])
        return result


def make_baselines(
    channels: np.ndarray,
    baseline: float | str | np.ndarray,
    spacing: Sequence[float] | np.ndarray,
    heads: Sequence[np.ndarray | None] | None = None,
) -> Baseline:
    """What occluded voxels of a scan of one or more channels (c, i, j, k) are replaced by.

    See `make_baseline`; `heads` are the channels' head masks, where they carry one.
    """
    given = [None] * len(channels) if heads is None else heads
    made = [
        make_baseline(data, baseline, spacing, head=head)
        for data, head in zip(channels, given, strict=True)
    ]
    return made[0] if len(made) == 1 else ChannelBaselines(channels, made)
