"""Whether computing only what changes takes less time than full passes, from what was measured."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from napari_cnnvis.models.model import Model

__all__ = ["PassTimes"]

#: seconds that tracing takes for each layer, until it was measured here
_TRACING = 0.015
#: regions from which on it is worth a pass or two to know how long passes take in batches
_MANY = 50
#: an estimate has to be so much below full passes to be tried, and to be used
_TRIED, _USED = 0.9, 0.95
#: regions computed both ways are one in so many, and this many
_ONE_IN, _FEWEST_PROBES, _MOST_PROBES = 50, 2, 4


class PassTimes:
    """What full passes over some regions take, and what the engine would.

    Parameters
    ----------
    model : Model
    clean : Tensor, shape (1, c, i, j, k)
    boxes : array, shape (n, 3, 2)
        Of the regions.
    """

    #: seconds for each layer, as last measured
    tracing = _TRACING

    def __init__(self, model: Model, clean: Tensor, boxes: np.ndarray) -> None:
        self.regions = len(boxes)
        self.probes = int(np.clip(math.ceil(self.regions / _ONE_IN), _FEWEST_PROBES, _MOST_PROBES))
        self._pass = model.pass_seconds(clean, self.regions >= _MANY)
        self._layers = sum(1 for m in model.module.modules() if next(m.children(), None) is None)
        i, j, k = clean.shape[2:]
        self._share = model.layers((i, j, k)).share_of(boxes[..., 1] - boxes[..., 0])

    @property
    def full(self) -> float:
        """Seconds of a full pass for each region."""
        return self._pass * self.regions

    def may_pay(self) -> bool:
        """Whether to trace the network at all, from its layers' sizes and reach."""
        checks = (1 + 2 * self.probes) * self._pass
        estimate = self.full * self._share + self.tracing * self._layers + checks
        return estimate < _TRIED * self.full

    def traced(self, seconds: float) -> None:
        """Note how long tracing took."""
        PassTimes.tracing = (self.tracing + seconds / max(self._layers, 1)) / 2

    def pays(self, seconds: float, work: np.ndarray, probes: np.ndarray) -> bool:
        """Whether the engine is quicker, from the time that some regions took it one by one.

        Parameters
        ----------
        seconds : float
            Of the probes.
        work : array, shape (n,)
            Multiply-adds of each region.
        probes : array of int
        """
        estimate = seconds * work.sum() / max(work[probes].sum(), 1)
        return estimate < _USED * self.full
