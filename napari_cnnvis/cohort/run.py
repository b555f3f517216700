"""Run a model, and a method, on many scans; what is known already is not computed again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from napari_cnnvis.cohort.entries import ScanEntry, checked
from napari_cnnvis.cohort.keys import ResultKeys, scan_hash
from napari_cnnvis.cohort.predictions import Prediction
from napari_cnnvis.cohort.store import ResultStore
from napari_cnnvis.errors import in_plain_words
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.explain.run import explain
from napari_cnnvis.models.model import Model
from napari_cnnvis.progress import Progress
from napari_cnnvis.scan.files import read_volume
from napari_cnnvis.scan.volume import Volume

__all__ = ["ScanOutcome", "look_up", "read_scan", "run_on_all"]

Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class ScanOutcome:
    """What is known of a scan so far.

    Attributes
    ----------
    index : int
        Of the entry in the list that was given.
    entry : ScanEntry
    prediction : Prediction or None
    mapped : bool
        Whether the map that was asked for is in the store.
    attribution : Attribution or None
        That map, if it was computed just now.
    problem : str
        Why it failed, in plain words; "" if it did not.

    Examples
    --------
    >>> from pathlib import Path
    >>> from napari_cnnvis.cohort import ScanEntry, ScanOutcome
    >>> ScanOutcome(0, ScanEntry(Path("sub-01.nii.gz"), "sub-01"), problem="It is damaged.").problem
    'It is damaged.'
    """

    index: int
    entry: ScanEntry
    prediction: Prediction | None = None
    mapped: bool = False
    attribution: Attribution | None = None
    problem: str = ""


def read_scan(entry: ScanEntry, orientation: str | None = None) -> Volume:
    """The scan of an entry, under the entry's name, with the file's axes or others.

    Raises
    ------
    VolumeError
        See `read_volume`.
    """
    volume = replace(read_volume(entry.path), name=entry.name)
    return volume if orientation is None else volume.reoriented(orientation, remember=True)


def look_up(
    keys: ResultKeys,
    entries: Sequence[ScanEntry],
    request: ExplainRequest | None,
    store: ResultStore,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    orientation: str | None = None,
) -> Iterator[ScanOutcome]:
    """What the store has of each scan; parameters and errors as in `run_on_all`."""
    for index, entry in enumerate(entries):
        if cancel is not None and cancel.is_set():
            return
        if progress is not None:
            progress(Progress(index, len(entries), "Looking up results"))
        outcome = ScanOutcome(index, entry)
        try:
            if problem := checked(entry).problem:
                yield replace(outcome, problem=problem)
                continue
            digest = scan_hash(entry.path)
            prediction = store.prediction(keys.prediction(digest, entry.columns))
        except Exception as exc:
            yield replace(outcome, problem=in_plain_words(exc, entry.name))
            continue
        mapped = request is not None and store.has_attribution(
            keys.attribution(digest, request, orientation, columns=entry.columns)
        )
        yield replace(outcome, prediction=prediction, mapped=mapped)


def run_on_all(
    model: Model,
    entries: Sequence[ScanEntry],
    request: ExplainRequest | None = None,
    store: ResultStore | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    orientation: str | None = None,
) -> Iterator[ScanOutcome]:
    """Predict every scan, then explain every scan; results are kept in the store.

    Gives first what the store has of each scan, then an outcome for each prediction, then
    one for each map. A scan that fails gets an outcome with its problem, and the others
    go on. What was done when the run is cancelled, or fails, is kept.

    Parameters
    ----------
    model : Model
    entries : sequence of ScanEntry
    request : ExplainRequest, optional
        Without it scans are predicted only. One layer, and for sensitivity supervoxels
        that are built from each scan.
    store : ResultStore, optional
        By default the one in the folder of the user's caches.
    progress : callable, optional
        Called with what is being done, such as "Predicting: sub-01".
    cancel : threading.Event, optional
    orientation : str, optional
        Axes to bring the scans to, such as "SAR", on which the maps then lie; the
        files' own by default.

    Yields
    ------
    ScanOutcome

    Raises
    ------
    MethodError
        If the model has no such class, or all layers are asked for.
    CnnVisError
        If the store cannot be written to.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> from napari_cnnvis.cohort import ResultStore, find_scans, run_on_all
    >>> _ = cv.write_volume(volume, "sub-01.nii.gz")
    >>> request = cv.ExplainRequest("cam", "lesion")
    >>> *_, last = run_on_all(model, find_scans("."), request, ResultStore("results"))
    >>> last.entry.name, last.mapped
    ('sub-01', True)
    """
    store = ResultStore() if store is None else store
    keys = ResultKeys(model)
    if request is not None:
        keys.attribution("", request)  # raises what is wrong before anything is run
    known: list[ScanOutcome] = []
    for outcome in look_up(keys, entries, request, store, progress, cancel, orientation):
        known.append(outcome)
        yield outcome
    run = _Run(model, keys, request, store, cancel, orientation)
    stages = [("Predicting", run.predict, lambda o: o.prediction is None)]
    if request is not None:
        stages.append((request.title, run.explain, lambda o: not o.mapped))
    for what, step, is_wanted in stages:
        wanted = [i for i, o in enumerate(known) if not o.problem and is_wanted(o)]
        for done, i in enumerate(wanted):
            if run.cancelled:
                return
            if progress is not None:
                progress(Progress(done, len(wanted), f"{what}: {known[i].entry.name}"))
            outcome = step(known[i])
            if outcome is None:
                return
            known[i] = replace(outcome, attribution=None)
            yield outcome
        if progress is not None and wanted:
            progress(Progress(len(wanted), len(wanted), what))


class _Run:
    """The steps of a run for one scan."""

    def __init__(
        self,
        model: Model,
        keys: ResultKeys,
        request: ExplainRequest | None,
        store: ResultStore,
        cancel: threading.Event | None,
        orientation: str | None,
    ) -> None:
        self._model, self._keys, self._request = model, keys, request
        self._store, self._cancel, self._orientation = store, cancel, orientation

    @property
    def cancelled(self) -> bool:
        return self._cancel is not None and self._cancel.is_set()

    def predict(self, outcome: ScanOutcome) -> ScanOutcome:
        def compute() -> tuple[str, Prediction]:
            digest = scan_hash(outcome.entry.path)
            volume = read_scan(outcome.entry, self._orientation)
            model = self._model.for_row(dict(outcome.entry.columns))
            notes = (*volume.notes, *model.conform(volume).notes)
            return digest, Prediction(model.predict(volume), notes)

        result, problem = _attempt(compute, outcome.entry.name)
        if result is None:
            return replace(outcome, problem=problem)
        digest, prediction = result
        self._store.put_prediction(self._keys.prediction(digest, outcome.entry.columns), prediction)
        return replace(outcome, prediction=prediction)

    def explain(self, outcome: ScanOutcome) -> ScanOutcome | None:
        """The outcome with its map, or None if the run was cancelled before it was complete."""

        def compute() -> tuple[str, Attribution]:
            digest = scan_hash(outcome.entry.path)
            volume = read_scan(outcome.entry, self._orientation)
            return digest, explain(
                self._model.for_row(dict(outcome.entry.columns)),
                volume,
                self._request,
                cancel=self._cancel,
            )

        result, problem = _attempt(compute, outcome.entry.name)
        if self.cancelled and (result is None or result[1].partial):
            return None
        if result is None:
            return replace(outcome, problem=problem)
        digest, attribution = result
        key = self._keys.attribution(
            digest, self._request, self._orientation, columns=outcome.entry.columns
        )
        self._store.put_attribution(key, attribution)
        return replace(outcome, mapped=True, attribution=attribution)


def _attempt(compute: Callable[[], Value], name: str) -> tuple[Value | None, str]:
    """The result, or what went wrong; nothing that one scan does stops the others."""
    try:
        return compute(), ""
    except Exception as exc:
        return None, in_plain_words(exc, name)
