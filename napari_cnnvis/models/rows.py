"""Whether a network's output for one scan depends on what else is in the batch."""

from __future__ import annotations

from collections.abc import Callable

import torch

from napari_cnnvis.errors import ComputeError
from napari_cnnvis.models.scores import LostRows

__all__ = ["rows_are_independent"]

#: difference from single passes, relative to the largest output, that is rounding
_ROUNDING = 1e-4
_SMALLEST = 1e-6


def rows_are_independent(run: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> bool:
    """Compare a batch of two inputs with both by themselves.

    The second one is far from the first, so that whatever is shared between rows (a mean, a
    deviation, an order) moves a lot.

    Parameters
    ----------
    run : callable
        Inputs (n, c, i, j, k) to outputs (n, n_outputs).
    x : Tensor, shape (1, c, i, j, k)

    Returns
    -------
    bool
        False also if two inputs do not give two rows. True also if a batch of two cannot be run
        at all; who sends batches has to cope with that anyway.

    Raises
    ------
    ComputeError
        If `x` cannot be run by itself.
    """
    other = x.flip((2, 3, 4)) * 0.5 + x.amax() * 0.25
    single = torch.cat([run(one) for one in (x, other)])
    try:
        together = run(torch.cat([x, other]))
    except LostRows:
        return False
    except ComputeError:
        return True
    if together.shape != single.shape:
        return False
    largest = float(single.abs().amax())
    return bool((together - single).abs().amax() <= _ROUNDING * largest + _SMALLEST)
