"""What sensitivity and box occlusion share: prepare a scan, score occlusions, stop in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.parameter import Baseline as GivenBaseline
from napari_cnnvis.explain.parameter import baseline_names, check_baselines
from napari_cnnvis.explain.scoring.baselines import Baseline, make_baselines
from napari_cnnvis.explain.scoring.occlusions import Occlusions
from napari_cnnvis.explain.scoring.scorer_choice import EngineReport, choose_scorer
from napari_cnnvis.models.model import Model
from napari_cnnvis.progress import Progress
from napari_cnnvis.scan.conform import Conformed, conform
from napari_cnnvis.scan.volume import Scan, Volume, channels_of

__all__ = ["Limits", "OccludedScan"]


@dataclass(frozen=True)
class Limits:
    """When and how a run reports and ends.

    Parameters
    ----------
    progress : callable, optional
        Called with a `Progress` after each batch.
    cancel : threading.Event, optional
        When set, the run ends with what it has.
    time_budget : float, optional
        Seconds of scoring after which it does.
    """

    progress: Callable[[Progress], None] | None = None
    cancel: threading.Event | None = None
    time_budget: float | None = None

    def batches(
        self,
        scored: Iterator[tuple[np.ndarray, np.ndarray]],
        total: int,
        what: str,
        partial: Callable[[], Callable[[], Any]],
        done: int = 0,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Hand batches on until all are done or the run is to end.

        `partial` is called after a batch has been taken in, and gives what makes the
        map so far.
        """
        end = np.inf if self.time_budget is None else time.monotonic() + self.time_budget
        while not (self.cancel is not None and self.cancel.is_set()) and time.monotonic() < end:
            batch = next(scored, None)
            if batch is None:
                return
            yield batch
            done += len(batch[0])
            if self.progress is not None:
                self.progress(Progress(done, total, what, partial()))


@dataclass(frozen=True, eq=False)
class OccludedScan:
    """A scan on a model's grid, and what its voxels are to be replaced by.

    Parameters
    ----------
    model : Model
    volume : Volume, or a sequence with one for each input channel
    baseline : see `check_baselines`

    Raises
    ------
    MethodError
        If a baseline is none, or lies on another grid.
    """

    model: Model
    volume: Scan
    baseline: GivenBaseline | Sequence[GivenBaseline]

    @cached_property
    def given(self) -> tuple[GivenBaseline, ...]:
        """The baselines as they were given."""
        return check_baselines(self.baseline)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What the baselines are called."""
        return baseline_names(self.given)

    @cached_property
    def conformed(self) -> Conformed:
        """The scan as the network sees it."""
        return self.model.conform(self.volume)

    @cached_property
    def baselines(self) -> list[Baseline]:
        """What replaces voxels, on the model's grid."""
        made = []
        for baseline in self.given:
            scan, given = self.conformed, baseline
            if isinstance(given, Volume):
                self._check_grid(given)
                value: float | str | np.ndarray = conform(
                    given, self.model.input_spec, like=scan
                ).data
            else:
                value = given
            made.append(make_baselines(scan.channels, value, scan.spacing, scan.heads))
        return made

    def _check_grid(self, baseline: Volume) -> None:
        scan = channels_of(self.volume)[0]
        if self.model.input_spec.channels > 1:
            raise MethodError(
                f"A scan as baseline ('{baseline.name}') works for networks of one input channel; "
                "use 'blur' or a number."
            )
        if not baseline.same_grid(scan):
            raise MethodError(
                f"'{baseline.name}' is not on the grid of '{scan.name}' (its shape or "
                "affine differ), so it cannot be its baseline; register and resample it first."
            )

    def scorer(
        self, occlusions: Occlusions, engine: str, precision: str, batch_size: int | None
    ) -> tuple[Any, EngineReport]:
        """See `choose_scorer`."""
        clean = self.model.tensor(self.conformed.channels)
        return choose_scorer(self.model, clean, occlusions, engine, precision, batch_size)
