"""Looks up, predicts and explains the scans of the panel "Scans", in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakSet

from qtpy.QtCore import QObject, Signal

from napari_cnnvis._napari.scans.cohort_request import (
    model_for_scans,
    request_for_scans,
    request_or_none,
)
from napari_cnnvis._napari.scans.loader import DISPLAY_AXES, ScanLoader
from napari_cnnvis._napari.session.session import Session
from napari_cnnvis._napari.widgets.jobs import JobRunner
from napari_cnnvis.cohort.entries import ScanEntry
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.progress import Progress

__all__ = ["ScanRuns"]


class ScanRuns(QObject):
    """One run at a time, with the network, among the jobs of the viewer's session.

    Parameters
    ----------
    session : Session
    loader : ScanLoader
        Whose store takes the results.
    """

    #: number of the scan, its `ScanOutcome`, the model, and whether it was only looked up
    outcome = Signal(int, object, object, bool)
    #: results of the network can be looked up now
    learned = Signal()
    #: a run of all scans began or ended
    changed = Signal()
    #: what it says at its end
    said = Signal(str)
    _came = Signal(object)

    def __init__(self, session: Session, loader: ScanLoader, parent: QObject | None) -> None:
        super().__init__(parent)
        self._session, self._loader = session, loader
        self._entries: Sequence[ScanEntry] = ()
        self._look_ups = JobRunner(self)
        self._look_ups.finished.connect(self._on_looked_up)
        self._look_again = False
        self._running = self._over = False
        self._tried: set[int] = set()
        self._read: WeakSet[Any] = WeakSet()
        self._came.connect(self._on_outcome)
        session.idle.connect(self._on_idle)
        session.failed.connect(self._on_failed)
        session.model_changed.connect(self._on_model)

    @property
    def running(self) -> bool:
        """Whether all scans are being predicted or explained."""
        return self._running

    @property
    def busy(self) -> bool:
        """Whether anything is under way."""
        return self._running or self._look_ups.busy

    def show_entries(self, entries: Sequence[ScanEntry]) -> None:
        """Take other scans; what comes in for the last ones is left out."""
        self.cancel()
        self._entries = entries
        self._tried.clear()

    # --- looking up ------------------------------------------------------------------

    def look_up(self) -> None:
        """Tell what the store has of each scan, for the network and method as they are set."""
        model = self._session.model
        if model is None or not self._entries:
            return
        if not self._loader.knows(model):
            self._learn(model)
            return
        if self._look_ups.busy:
            self._look_again = True
            self._look_ups.cancel()
            return
        entries, request = self._entries, request_or_none(self._session)
        keys, store = self._loader.keys, self._loader.store

        def job(progress: Callable[[Progress], None], cancel: threading.Event) -> None:
            from napari_cnnvis.cohort.run import look_up

            wanted = (
                None if request is None or getattr(request.how, "layer", None) == "all" else request
            )
            for outcome in look_up(
                keys(model), entries, wanted, store, progress, cancel, DISPLAY_AXES
            ):
                self._came.emit((entries, outcome.index, outcome, model, True))

        self._look_ups.start("Looking up results", job, lambda _: None)

    def _learn(self, model: Any) -> None:
        """Read the weights once, as a job of its own: another one may put others in their place."""
        if self._session.jobs.busy or model in self._read:
            return
        self._read.add(model)
        self._session.jobs.start(
            "Reading the weights",
            lambda progress, cancel: self._loader.learn(model),
            lambda _: self.learned.emit(),
        )

    def _on_looked_up(self) -> None:
        if self._look_again:
            self._look_again = False
            self.look_up()

    # --- running ---------------------------------------------------------------------

    def run(self, with_maps: bool) -> None:
        """Predict all scans, and run the method on them if asked for.

        Raises
        ------
        CnnVisError
            If that cannot be done now.
        """
        model = model_for_scans(self._session)
        request = request_for_scans(self._session) if with_maps else None
        if not self._entries:
            raise CnnVisError("Open a folder or a table of scans first.")
        if self._session.jobs.busy:
            raise CnnVisError(
                "The network is busy; wait until it has finished, or cancel that run."
            )
        what = request.title if request else "Predictions"
        self._running, self._over = True, False
        self._start(
            f"{what} of {len(self._entries)} scans", model, range(len(self._entries)), request
        )
        self.changed.emit()

    def predict(self, number: int) -> bool:
        """Predict one scan; False if that cannot be done now, or was tried before."""
        try:
            model = model_for_scans(self._session)
        except CnnVisError:
            return False
        if self._session.jobs.busy or number in self._tried:
            return False
        self._tried.add(number)
        self._start(f"Scoring {self._entries[number].name}", model, [number], None)
        return True

    def _start(
        self, what: str, model: Any, numbers: Sequence[int], request: ExplainRequest | None
    ) -> None:
        entries, store = self._entries, self._loader.store
        chosen = [entries[n] for n in numbers]

        def job(
            progress: Callable[[Progress], None], cancel: threading.Event
        ) -> tuple[bool, list[Any]]:
            from napari_cnnvis.cohort.run import run_on_all

            last: dict[int, Any] = {}
            for outcome in run_on_all(
                model, chosen, request, store, progress, cancel, DISPLAY_AXES
            ):
                number = numbers[outcome.index]
                last[number] = outcome.problem, outcome.prediction is not None, outcome.mapped
                self._came.emit((entries, number, outcome, model, False))
            return cancel.is_set(), list(last.values())

        def done(result: tuple[bool, list[Any]]) -> None:
            self._over = True
            if self._running and entries is self._entries:
                self.said.emit(_summary(*result, request is not None))

        self._session.jobs.start(what, job, done)

    def cancel(self) -> None:
        """Stop; what was done is kept."""
        self._look_again = False
        self._look_ups.cancel()
        if self._running:
            self._session.jobs.cancel()

    def close(self) -> None:
        """Stop, and tell nothing any more."""
        self.cancel()
        self._look_ups.close()
        self._entries = ()

    # --- what comes in -----------------------------------------------------------------

    def _on_outcome(self, came: tuple[Any, int, Any, Any, bool]) -> None:
        entries, number, outcome, model, looked_up = came
        if entries is self._entries and model is self._session.model:
            self.outcome.emit(number, outcome, model, looked_up)

    def _on_idle(self) -> None:
        if self._running and self._over:
            self._running = False
            self.changed.emit()
        if self._session.model is not None and not self._loader.knows(self._session.model):
            self.look_up()

    def _on_model(self) -> None:
        self._tried.clear()

    def _on_failed(self, text: str) -> None:
        if self._running:
            self._over = True
            self.said.emit(f"⚠ {text}")


def _summary(cancelled: bool, results: list[tuple[str, bool, bool]], with_maps: bool) -> str:
    failed = sum(bool(problem) for problem, _, _ in results)
    parts = [f"{sum(predicted for _, predicted, _ in results)} scans predicted"]
    if with_maps:
        parts.append(f"{sum(mapped for _, _, mapped in results)} with a map")
    if failed:
        parts.append(f"{failed} failed, see their status")
    return ("Cancelled: " if cancelled else "") + ", ".join(parts) + "."
