"""What a run gave, and the view of it that the form asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from napari_cnnvis.explain.request import GRADIENT, ExplainRequest

__all__ = ["RunResult"]


@dataclass(frozen=True, eq=False)
class RunResult:
    """An attribution or the maps of all layers, with the request that led to it.

    Other layers, gradient methods, alignments, classes, scores and baselines are shown from
    it at once, where they need no other run.
    """

    request: ExplainRequest
    outcome: Any

    @property
    def attribution(self) -> Any:
        """What the request asked for."""
        return self.view(self.request, None)

    @property
    def baselines(self) -> tuple[str, ...]:
        """The names of the run's baselines, if it had any."""
        scores = getattr(self.outcome, "regions", None)
        return () if scores is None else scores.baselines

    @property
    def levels(self) -> tuple[int, ...]:
        """Numbers of regions of the run's levels, fine to coarse, if it had any."""
        scores = getattr(self.outcome, "regions", None)
        levels = getattr(scores, "levels", ())
        return tuple(len(set(level.tolist())) for level in levels)

    def view(
        self,
        request: ExplainRequest,
        shown: str | None,
        level_weights: list[float] | None = None,
    ) -> Any:
        """The attribution for what the form asks now, or None if that takes another run.

        `shown` is the name of a baseline, "disagreement", or None for their mean.
        """
        from napari_cnnvis.explain.layers.layer_maps import LayerMaps
        from napari_cnnvis.explain.remap import remap

        if isinstance(self.outcome, LayerMaps):
            asked = request.target, request.score
            if request.method not in GRADIENT or asked != (self.request.target, self.request.score):
                return None
            seen = self.outcome.of(request.method, request.relu, request.alignment)
            return seen.get(request.layer)
        if request.method != self.request.method:
            return None
        if self.outcome.regions is None:
            return self.outcome
        return remap(
            self.outcome,
            request.target,
            request.quantity,
            request.score,
            shown,
            request.join,
            level_weights,
            request.smooth,
        )
