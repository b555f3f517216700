"""Whether a network's output for one scan depends on what else is in the batch, and how long one takes."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn

from napari_cnnvis.errors import ComputeError
from napari_cnnvis.models.execution import arrange_weights
from napari_cnnvis.models.scores import LostRows

__all__ = ["Rows", "stays_channels_last"]

#: another layout is taken if a pass takes less than this share of the time
_FASTER = 0.95
#: difference from single passes, relative to the largest output, that is rounding
_ROUNDING = 1e-4
_SMALLEST = 1e-6


def stays_channels_last(
    module: nn.Module, run: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, seconds: float
) -> bool:
    """Lay a network's weights out as in training if a pass is faster so; False if they stay so.

    Most networks, and all of incremental scoring, run faster with channels last.

    Parameters
    ----------
    module : nn.Module
    run : callable
        As for `Rows`.
    x : Tensor, shape (1, c, i, j, k)
    seconds : float
        Of a pass with channels last.
    """
    arrange_weights(module, torch.contiguous_format)
    if Rows(run).seconds(x.contiguous()) <= _FASTER * seconds:
        return False
    arrange_weights(module)
    return True


class Rows:
    """What is known of a network's passes, by the input's shape; each is tried once.

    Parameters
    ----------
    run : callable
        Inputs (n, c, i, j, k) to outputs (n, n_outputs).
    """

    def __init__(self, run: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._run = run
        self._independent: dict[tuple[int, ...], bool] = {}
        self._seconds: dict[tuple[int, ...], float] = {}
        self._in_pairs: dict[tuple[int, ...], float] = {}

    def are_independent(self, x: torch.Tensor) -> bool:
        """Compare a batch of two inputs with both by themselves.

        The second one is far from the first, so that whatever is shared between rows (a mean, a
        deviation, an order) moves a lot.

        Parameters
        ----------
        x : Tensor, shape (1, c, i, j, k)

        Returns
        -------
        bool
            False also if two inputs do not give two rows. True also if a batch of two cannot be
            run at all; who sends batches has to cope with that anyway.

        Raises
        ------
        ComputeError
            If `x` cannot be run by itself.
        """
        shape = tuple(x.shape)
        if shape not in self._independent:
            self._independent[shape] = self._compare(x)
        return self._independent[shape]

    def seconds(self, x: torch.Tensor) -> float:
        """How long a pass of one input takes here.

        Raises
        ------
        ComputeError
            If it cannot be run.
        """
        if tuple(x.shape) not in self._seconds:
            self._single(x)
        return self._seconds[tuple(x.shape)]

    def seconds_in_batches(self, x: torch.Tensor) -> float:
        """The same for one input of two that are run together, which may be quicker."""
        shape = tuple(x.shape)
        if shape not in self._in_pairs:
            single = self.seconds(x)
            try:
                pair = self._timed(torch.cat([x, x]))[1] / 2
            except ComputeError:
                pair = single
            self._in_pairs[shape] = min(single, pair)
        return self._in_pairs[shape]

    def _timed(self, x: torch.Tensor) -> tuple[torch.Tensor, float]:
        began = time.perf_counter()
        output = self._run(x)
        output.sum().item()  # waits for the device
        return output, time.perf_counter() - began

    def _single(self, x: torch.Tensor) -> torch.Tensor:
        shape = tuple(x.shape)
        output, seconds = self._timed(x)
        self._seconds[shape] = min(seconds, self._seconds.get(shape, seconds))
        return output

    def _compare(self, x: torch.Tensor) -> bool:
        ramp = torch.linspace(0.25, 0.5, x.shape[-1]).to(x) * (float(x.abs().amax()) or 1.0)
        other = x.flip((2, 3, 4)) * 0.5 + ramp
        single = torch.cat([self._single(one) for one in (x, other)])
        try:
            together = self._run(torch.cat([x, other]))
        except LostRows:
            return False
        except ComputeError:
            return True
        if together.shape != single.shape:
            return False
        largest = float(single.abs().amax())
        return bool((together - single).abs().amax() <= _ROUNDING * largest + _SMALLEST)
