"""Reads scans and kept results in the background; the last few, and the next one, are at hand."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from qtpy.QtCore import QObject, QThreadPool, Signal
from superqt.utils import create_worker

from napari_cnnvis._napari.layers.scans import volume_to_layer
from napari_cnnvis.cohort.entries import ScanEntry, checked
from napari_cnnvis.cohort.predictions import Prediction
from napari_cnnvis.cohort.store import ResultStore
from napari_cnnvis.errors import CnnVisError, VolumeError
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.reading import source_file
from napari_cnnvis.scan.volume import Volume

__all__ = ["DISPLAY_AXES", "LoadedScan", "ScanLoader", "Wanted"]

#: the axes that layers have, on which maps are kept
DISPLAY_AXES = "SAR"
#: so many scans and maps
_KEPT = 6
#: milliseconds that closing waits for a scan to be read
_PATIENCE = 2000


@dataclass(frozen=True)
class Wanted:
    """What is to be loaded: a scan, and what is kept of it for a model, if known, and a request."""

    entry: ScanEntry
    model: Any = None
    request: ExplainRequest | None = None
    with_head: bool = False


@dataclass(frozen=True, eq=False)
class LoadedScan:
    """A scan as a layer, with what is kept of it.

    Attributes
    ----------
    wanted : Wanted
    data : array
    arguments : dict
        Of the layer, as `volume_to_layer` gives them.
    span : (float, float)
        Between which most intensities lie.
    digest : str
        Hash of the file.
    volume : Volume
        With the layer's axes.
    prediction : Prediction or None
    attribution : Attribution or None
    head : array or None
        Which voxels are the head's, if it was asked for.
    """

    wanted: Wanted
    data: np.ndarray
    arguments: dict[str, Any]
    span: tuple[float, float]
    digest: str
    volume: Volume
    prediction: Prediction | None = None
    attribution: Any = None
    head: np.ndarray | None = None


class _Recent(OrderedDict):
    """The last few values that were put in or asked for."""

    def put(self, key: Any, value: Any) -> None:
        self[key] = value
        self.move_to_end(key)
        while len(self) > _KEPT:
            self.popitem(last=False)


class ScanLoader(QObject):
    """Loads what was asked for last, then what may come next; one at a time.

    Parameters
    ----------
    store : ResultStore
    """

    loaded = Signal(object)
    #: the entry, and why it cannot be shown
    failed = Signal(object, str)

    def __init__(self, store: ResultStore, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.store = store
        self._scans, self._maps = _Recent(), _Recent()
        self._keys: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self._now: Wanted | None = None
        self._next: Wanted | None = None
        self._worker: Any = None
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether something is being loaded."""
        return self._worker is not None

    def fetch(self, wanted: Wanted) -> None:
        """Load something and tell by `loaded`; at once if it is at hand. Earlier wishes are forgotten."""
        self._next = None
        if (ready := self._at_hand(wanted)) is not None:
            self._now = None
            self.loaded.emit(ready)
        elif wanted != self._now:
            self._now = wanted
            self._start()

    def prefetch(self, wanted: Wanted) -> None:
        """Load something when there is nothing else to do."""
        self._next = wanted
        self._start()

    def close(self) -> None:
        """Deliver nothing any more."""
        self._closed = True
        self._now = self._next = None
        if self.busy:  # reading a file does not take long; Qt may be gone after it
            QThreadPool.globalInstance().waitForDone(_PATIENCE)

    def knows(self, model: Any) -> bool:
        """Whether the keys of a model's results are known."""
        return model is not None and model in self._keys

    def learn(self, model: Any) -> None:
        """Find the keys of a model's results, in a worker while nothing else uses the network."""
        from napari_cnnvis.cohort.keys import ResultKeys

        self._keys[model] = ResultKeys(model)

    def keys(self, model: Any) -> Any:
        """The keys of the results of a model that is known."""
        return self._keys[model]

    # --- what is at hand -----------------------------------------------------------

    def _at_hand(self, wanted: Wanted) -> LoadedScan | None:
        try:
            scan = self._scans.get(_written(wanted.entry.path))
        except OSError:
            return None
        if scan is None or (wanted.with_head and scan.head is None):
            return None
        try:
            return self._with_results(scan, wanted, from_disk=False)
        except (LookupError, CnnVisError):
            return None

    def _with_results(self, scan: LoadedScan, wanted: Wanted, from_disk: bool) -> LoadedScan:
        """The scan with its prediction and map.

        Raises
        ------
        LookupError
            If the map is on disk only and is not to be read from there.
        """
        prediction = attribution = None
        if wanted.model is not None:
            keys = self.keys(wanted.model)
            prediction = self.store.prediction(keys.prediction(scan.digest, wanted.entry.columns))
            how = None if wanted.request is None else wanted.request.how
            if how is not None and getattr(how, "layer", None) != "all":
                key = keys.attribution(
                    scan.digest, wanted.request, DISPLAY_AXES, columns=wanted.entry.columns
                )
                attribution = self._maps.get(key)
                if attribution is None and self.store.has_attribution(key):
                    if not from_disk:
                        raise LookupError(key)
                    attribution = self.store.attribution(key, scan.volume)
                if attribution is not None:
                    self._maps.put(key, attribution)
        return replace(scan, wanted=wanted, prediction=prediction, attribution=attribution)

    def _load(self, wanted: Wanted) -> LoadedScan:
        """Read a scan and what is kept of it; runs in a worker."""
        from napari_cnnvis.cohort.keys import scan_hash
        from napari_cnnvis.cohort.run import read_scan

        if problem := checked(wanted.entry).problem:
            raise VolumeError(f"{wanted.entry.path}: {problem}.")
        written = _written(wanted.entry.path)
        scan = self._scans.get(written)
        if scan is None:
            volume = read_scan(wanted.entry, DISPLAY_AXES)
            if not volume.data.flags.owndata:  # still on the file, which may be rewritten
                volume = replace(volume, data=volume.data.copy())
            data, arguments = volume_to_layer(volume)
            span = tuple(float(v) for v in np.percentile(data[::3, ::3, ::3], (1, 99.5)))
            digest = scan_hash(wanted.entry.path)
            scan = LoadedScan(wanted, data, arguments, span, digest, volume)
        if wanted.with_head and scan.head is None:
            scan = replace(scan, head=_head(scan.volume))
        self._scans.put(written, scan)
        return self._with_results(scan, wanted, from_disk=True)

    # --- the worker ------------------------------------------------------------------

    def _start(self) -> None:
        if self.busy or self._closed:
            return
        wanted = self._now or self._next
        if wanted is None:
            return
        if wanted is self._next:
            self._next = None
        self._worker = create_worker(
            self._load, wanted, _start_thread=False, _ignore_errors=True
        )  # fmt: skip
        self._worker.returned.connect(lambda scan: self._end(wanted, self.loaded.emit, scan))
        self._worker.errored.connect(lambda exc: self._end(wanted, self._fail(wanted), exc))
        self._worker.start()

    def _fail(self, wanted: Wanted) -> Callable[[BaseException], None]:
        def fail(exc: BaseException) -> None:
            text = str(exc) if isinstance(exc, CnnVisError) else f"{type(exc).__name__}: {exc}"
            self.failed.emit(wanted.entry, text)

        return fail

    def _end(self, wanted: Wanted, deliver: Callable[[Any], None], value: Any) -> None:
        self._worker = None
        if self._closed:
            return
        if wanted is self._now:
            self._now = None
            deliver(value)
        self._start()


def _written(path: Path) -> tuple[Path, int, int]:
    about = os.stat(source_file(str(path))[0])
    return path, about.st_size, about.st_mtime_ns


def _head(volume: Volume) -> np.ndarray:
    from napari_cnnvis.scan.head import head_of

    try:
        return head_of(volume)
    except CnnVisError:  # a constant volume has none
        return np.ones(volume.shape, bool)
