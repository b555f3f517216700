"""Sliding windows: a network trained on patches as a network of a whole scan."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from torch import Tensor, nn

from napari_cnnvis.models.scores import Reading

__all__ = ["SlidingWindows", "importance", "window_slices"]


def window_slices(
    shape: tuple[int, ...], window: tuple[int, ...], overlap: float
) -> list[tuple[slice, ...]]:
    """Where windows lie: a step of ``window * (1 - overlap)`` voxels, the last one at the edge.

    As in MONAI's ``sliding_window_inference``.

    Parameters
    ----------
    shape : (int, int, int)
        Of the scan, at least as large as the window.
    window : (int, int, int)
    overlap : float
        From 0 to below 1.
    """
    starts = []
    for n, w in zip(shape, window, strict=True):
        step = max(1, int(w * (1 - overlap)))
        last = n - w
        starts.append(sorted({*range(0, last, step), last}))
    return [
        tuple(slice(a, a + w) for a, w in zip(start, window, strict=True))
        for start in itertools.product(*starts)
    ]


class SlidingWindows(nn.Module):
    """Maps a whole scan (n, c, i, j, k) to the mean of a network's raw outputs over windows.

    Parameters
    ----------
    net : nn.Module
        Takes windows.
    window : (int, int, int)
        Voxels of a window.
    overlap : float
        Share that neighbouring windows have in common.
    reading : Reading
        How the network is run to its scores.
    """

    def __init__(
        self, net: nn.Module, window: tuple[int, int, int], overlap: float, reading: Reading
    ) -> None:
        super().__init__()
        self.net, self.window, self.overlap, self.reading = net, window, overlap, reading

    def pieces(self, x: Tensor) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
        """Copies of the windows of `x`, with where they lie."""
        shape = tuple(int(n) for n in x.shape[2:])
        for place in window_slices(shape, self.window, self.overlap):
            yield place, x[(slice(None), slice(None), *place)].clone()

    def forward(self, x: Tensor) -> Tensor:
        scores = [self.reading.run(self.net, piece) for _, piece in self.pieces(x)]
        total = scores[0]
        for one in scores[1:]:
            total = total + one
        return total / len(scores)


def importance(window: tuple[int, ...]) -> np.ndarray:
    """Weights of a window's voxels where windows overlap: a Gaussian of an eighth of its width.

    As MONAI's ``mode="gaussian"``; never below 1e-3 of the largest.
    """
    axes = [np.exp(-0.5 * (((np.arange(n) - (n - 1) / 2) / (n / 8)) ** 2)) for n in window]
    weights = np.einsum("i,j,k->ijk", *axes)
    return np.maximum(weights, 1e-3).astype(np.float32)
