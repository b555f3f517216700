"""In which orders voxels leave a scan, and the scans without the first of them."""

from __future__ import annotations

import numpy as np

from napari_cnnvis.explain.scoring.baselines import Baseline

__all__ = ["StepOcclusions", "fractions_of", "surrogates"]


def fractions_of(steps: int) -> np.ndarray:
    """From 0 to 1 with `steps` points between, finer near both ends, and 1 - f for each f."""
    return (1 - np.cos(np.pi * np.arange(steps + 2) / (steps + 1))) / 2


def surrogates(
    map_: np.ndarray, inside: np.ndarray, count: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Random maps, flat, with the power spectrum that a map has inside a mask."""
    places = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {a}))) for a in range(3)]
    box = tuple(slice(int(p[0]), int(p[-1]) + 1) for p in places)
    values = np.where(inside, map_ - map_[inside].mean(), 0)[box].astype(np.float64)
    if not values.any():
        values = rng.normal(size=values.shape)
    power = np.abs(np.fft.rfftn(values))
    made = []
    for _ in range(count):
        phases = np.fft.rfftn(rng.normal(size=values.shape))
        full = np.zeros(map_.shape)
        full[box] = np.fft.irfftn(power * phases / np.abs(phases), values.shape, axes=(0, 1, 2))
        made.append(full.ravel())
    return made


class StepOcclusions:
    """The first voxels of several orders, replaced; see `Occlusions`.

    Parameters
    ----------
    orders : array, int64, shape (n_orders, n_voxels)
        Flat indices of the voxels, in the order in which they leave.
    counts : array, int64, shape (n_steps,)
        How many have left, rising, at least one.
    baseline : Baseline
    shape : (int, int, int)
        Of the volume.

    Attributes
    ----------
    boxes : array, int64, shape (n_orders * n_steps + 1, 3, 2)
        Order by order; in the last one all voxels have left.
    """

    def __init__(
        self, orders: np.ndarray, counts: np.ndarray, baseline: Baseline, shape: tuple[int, ...]
    ) -> None:
        self._orders = orders.astype(np.int32)
        self._baseline = baseline
        self._counts = np.clip(counts, 1, orders.shape[1])
        boxes = np.empty((*orders.shape[:1], len(counts), 3, 2), np.int64)
        for box, order in zip(boxes, orders, strict=True):
            for axis, place in enumerate(np.unravel_index(order, shape)):
                box[:, axis, 0] = np.minimum.accumulate(place)[self._counts - 1]
                box[:, axis, 1] = np.maximum.accumulate(place)[self._counts - 1] + 1
        everything = [[p.min(), p.max() + 1] for p in np.unravel_index(orders[0], shape)]
        self.boxes = np.concatenate([boxes.reshape(-1, 3, 2), [everything]])

    def voxels(self, index: int) -> np.ndarray:
        order, step = divmod(index, len(self._counts))
        if order == len(self._orders):
            return np.sort(self._orders[0]).astype(np.int64)
        return np.sort(self._orders[order, : self._counts[step]]).astype(np.int64)

    def values(self, index: int) -> np.ndarray:
        return self._baseline.values(self.voxels(index))
