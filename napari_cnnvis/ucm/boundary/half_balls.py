"""Sums over balls and half-balls about each voxel of a head, in 13 directions."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from scipy.fft import next_fast_len

from napari_cnnvis.progress import stop_if_cancelled

__all__ = ["DIRECTIONS", "HalfBalls", "ball_offsets", "plane_sides"]


def _half_of_the_26_neighbours() -> np.ndarray:
    steps = [d for d in itertools.product((-1, 0, 1), repeat=3) if d > (0, 0, 0)]
    return np.array(steps) / np.linalg.norm(steps, axis=1, keepdims=True)


#: unit vectors in millimetre space, shape (13, 3): one of each opposite pair of a cube's
#: 26 neighbours
DIRECTIONS = _half_of_the_26_neighbours()

#: complex numbers that one batch of transforms may hold
BATCH = 2**21


def ball_offsets(radius: float, spacing: Sequence[float]) -> np.ndarray:
    """Voxel offsets within `radius` millimetres, the centre included.

    Parameters
    ----------
    radius : float
        Millimetres.
    spacing : (float, float, float)
        Millimetres between voxels.

    Returns
    -------
    array, int64, shape (n, 3)
    """
    reach = [int(radius / s + 1e-6) for s in spacing]
    grid = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1)
    offsets = grid.reshape(-1, 3)
    return offsets[np.linalg.norm(offsets * spacing, axis=1) <= radius * (1 + 1e-6)]


def plane_sides(offsets: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """On which side of the plane through the centre, normal to each direction, offsets lie.

    Parameters
    ----------
    offsets : array of int, shape (n, 3)
    spacing : (float, float, float)
        Millimetres between voxels.

    Returns
    -------
    array, int8, shape (13, n)
        1 ahead, -1 behind, 0 on the plane.
    """
    ahead = DIRECTIONS @ (offsets * spacing).T
    return (np.sign(ahead) * (np.abs(ahead) > 1e-6 * max(spacing))).astype(np.int8)


class HalfBalls:
    """Sums over balls, and differences between their halves, at the voxels of a head.

    Voxels outside the head count nothing. Sums run as Fourier transforms over the
    head's bounding box, so that their time hardly depends on the radius.

    Used as a context, in which torch computes each step on one thread and directions
    run beside each other instead: torch's own threads wait for each other after every
    small step, which takes many times as long where the cores are shared.

    Parameters
    ----------
    head : array of bool, shape (i, j, k)
    spacing : (float, float, float)
        Millimetres between voxels.
    largest : float
        The greatest radius that will be asked for, in millimetres.
    device : str or torch.device
    cancel : threading.Event, optional
        When set, the next sum raises `VolumeError`.

    Attributes
    ----------
    n : int
        Voxels of the head; all values are in the order of ``data[head]``.
    """

    def __init__(
        self,
        head: np.ndarray,
        spacing: Sequence[float],
        largest: float,
        *,
        device: str | torch.device = "cpu",
        cancel: threading.Event | None = None,
    ) -> None:
        places = np.stack(np.nonzero(head))
        self.n = places.shape[1]
        self.spacing = tuple(spacing)
        self.device = torch.device(device)
        self.cancel = cancel
        self._threads = 1
        low = places.min(1) if self.n else np.zeros(3, int)
        self._extent = places.max(1) - low + 1 if self.n else np.ones(3, int)
        reach = np.minimum([int(largest / s + 1e-6) for s in spacing], self._extent - 1)
        self._grid = tuple(next_fast_len(int(n), True) for n in self._extent + reach)
        flat = np.ravel_multi_index(places - low[:, None], self._grid)
        self._inside = torch.from_numpy(flat).to(self.device)
        self._size = int(np.prod(self._grid))

    def __enter__(self) -> HalfBalls:
        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)
        return self

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._threads)

    def each_direction(self, work: Callable[[int], None]) -> None:
        """Call ``work(direction)`` for all 13; on a CPU as many at once as torch had threads."""
        if self.device.type == "cpu":
            with ThreadPoolExecutor(min(self._threads, len(DIRECTIONS))) as pool:
                list(pool.map(work, range(len(DIRECTIONS))))
        else:
            for direction in range(len(DIRECTIONS)):
                work(direction)

    def spectra(self, values: torch.Tensor) -> torch.Tensor:
        """Fourier transforms of (c, n) values, which `sums` and `differences` take.

        Two rows travel as the real and imaginary part of one volume.
        """
        packed = torch.zeros((len(values) + 1) // 2, self.n, 2, device=self.device)
        for row, value in enumerate(values):
            packed[row // 2, :, row % 2] = value
        packed = torch.view_as_complex(packed)
        spectra = packed.new_empty((len(packed), *self._grid))
        for row, part in zip(spectra, packed, strict=True):
            stop_if_cancelled(self.cancel, "Building the supervoxels")
            volume = part.new_zeros(self._size)
            volume[self._inside] = part
            torch.fft.fftn(volume.view(self._grid), out=row)
        return spectra

    def sums(self, spectra: torch.Tensor, radius: float) -> Iterator[torch.Tensor]:
        """Sums over the ball of `radius` mm, for each row of values an array of shape (n,).

        After an odd number of rows follows one of zeros.
        """
        offsets = ball_offsets(radius, self.spacing)
        yield from self._convolve(spectra, offsets, np.ones(len(offsets), np.int8))

    def differences(
        self, spectra: torch.Tensor, radius: float, direction: int
    ) -> Iterator[torch.Tensor]:
        """Like `sums`: the half ahead less the half behind; the plane is in neither."""
        offsets = ball_offsets(radius, self.spacing)
        sides = plane_sides(offsets, self.spacing)[direction]
        yield from self._convolve(spectra, offsets, sides)

    def halves(
        self, count: torch.Tensor, surplus: torch.Tensor, radius: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Sizes of the two halves, and how far a difference between them can be trusted.

        Parameters
        ----------
        count, surplus : tensors, shape (n,)
            `sums` and `differences` of ones.
        radius : float
            Millimetres.

        Returns
        -------
        ahead, behind : tensors, shape (n,)
            Twice the head's voxels in each half (a voxel on the plane counts half to
            each side), at least 1.
        trust : tensor, shape (n,)
            The smaller half's part of half a whole ball: 1 deep in the head, 0 where
            one half lies outside it.
        """
        count, surplus = count.round(), surplus.round()
        ahead, behind = count + surplus, count - surplus
        trust = torch.minimum(ahead, behind) / len(ball_offsets(radius, self.spacing))
        return ahead.clamp(min=1), behind.clamp(min=1), trust

    def _convolve(
        self, spectra: torch.Tensor, offsets: np.ndarray, weights: np.ndarray
    ) -> Iterator[torch.Tensor]:
        within = (np.abs(offsets) < self._extent).all(1)  # others reach nothing from any voxel
        kernel = torch.zeros(self._grid)
        kernel[tuple((offsets[within] % self._grid).T)] = torch.from_numpy(weights[within]).float()
        spectrum = torch.fft.fftn(kernel.to(self.device)).conj()
        for part in spectra.split(self._batch):
            stop_if_cancelled(self.cancel, "Building the supervoxels")
            volumes = torch.fft.ifftn(part * spectrum, dim=(1, 2, 3))
            for volume in volumes.view(len(part), -1):
                packed = volume[self._inside]
                yield packed.real.contiguous()
                yield packed.imag.contiguous()

    @property
    def _batch(self) -> int:
        return max(1, BATCH // self._size)
