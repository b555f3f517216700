"""What a run gave, and the view of it that the form asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from napari_cnnvis.explain.request import ExplainRequest

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
        return self.view(self.request)

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

    def view(self, request: ExplainRequest) -> Any:
        """The attribution for what the form asks now, or None if that takes another run."""
        ran = self.request
        return request.how.view(request.target, self.outcome, ran.how, ran.target)
