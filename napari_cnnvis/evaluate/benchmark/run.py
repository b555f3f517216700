"""Does each method find the right place? Every network, scan and method, scored and kept."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from napari_cnnvis.cohort.keys import ResultKeys, scan_hash
from napari_cnnvis.errors import MethodError, in_plain_words, some_of
from napari_cnnvis.evaluate.benchmark.cases import Case, Method
from napari_cnnvis.evaluate.benchmark.methods import methods_of
from napari_cnnvis.evaluate.benchmark.options import BenchmarkOptions
from napari_cnnvis.evaluate.benchmark.rows import RowStore, ScoreRow, write_csv
from napari_cnnvis.evaluate.benchmark.table import BenchmarkScan, ScanWithRegions
from napari_cnnvis.evaluate.localisation import RankedMap, near
from napari_cnnvis.models.model import Model
from napari_cnnvis.progress import Progress
from napari_cnnvis.scan.volume import Volume

__all__ = ["BenchmarkResult", "run_benchmark"]


@dataclass(frozen=True, eq=False)
class BenchmarkResult:
    """What a benchmark found.

    Attributes
    ----------
    rows : tuple of ScoreRow
    problems : tuple of str
        What could not be run on which scan, in plain words.
    complete : bool
        False if it was cancelled; started again it goes on.
    """

    rows: tuple[ScoreRow, ...]
    problems: tuple[str, ...]
    complete: bool


def run_benchmark(
    models: Mapping[str, Model],
    scans: Sequence[BenchmarkScan],
    target: int | str,
    folder: Path,
    options: BenchmarkOptions | None = None,
    rois: Mapping[str, Sequence[int]] | None = None,
    tolerance: float = 0.0,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
) -> BenchmarkResult:
    """Score the maps of every method, network and scan against each region.

    What was scored before with the same network, files and settings is not computed
    again: rows are kept one by one in ``folder/rows``, whatever ends the run. All rows
    are written to ``folder/scores.csv`` when it ends.

    Parameters
    ----------
    models : dict of str to Model
        By the name that they have in the tables.
    scans : sequence of BenchmarkScan
        See `read_benchmark_table`.
    target : int or str
        The class to explain, by index or name, the same in every model.
    folder : Path
        Made if it is not there.
    options : BenchmarkOptions, optional
    rois : dict of str to labels, optional
        Regions beside the truth, as labels of the scans' label volumes.
    tolerance : float
        Millimetres that a map's maximum may lie from a region to count as a hit.
    progress : callable, optional
        Called before each method on each scan.
    cancel : threading.Event, optional
        When set, the method that is running is given up, and the rest is not started.

    Returns
    -------
    BenchmarkResult
        A method that fails on a scan is listed as a problem, and the others go on.
        Methods that do not apply to a network, such as CAM, have no rows.

    Raises
    ------
    MethodError
        If a model has no such class, or no model has one of the layers.
    CnnVisError
        If the folder cannot be written to.
    """
    options = BenchmarkOptions() if options is None else options
    cancel = threading.Event() if cancel is None else cancel
    targets = {name: model.class_index(target) for name, model in models.items()}
    _check_layers(models.values(), options.layers)
    near(np.zeros(1, bool), tolerance)  # raises what is wrong before anything is run
    store, methods = RowStore(Path(folder) / "rows"), methods_of(options)
    rois = dict(rois or {})
    total = len(models) * len(scans) * len(methods)
    rows: list[ScoreRow] = []
    problems: list[str] = []
    done = 0
    try:
        for name, model in models.items():
            keys = ResultKeys(model)
            for scan in scans:
                loaded = _Loaded(scan, rois, tolerance)
                for method in methods:
                    if cancel.is_set():
                        return BenchmarkResult(tuple(rows), tuple(problems), False)
                    what = f"{name}, {scan.entry.name}, {method.name}"
                    if progress is not None:
                        progress(Progress(done, total, what))
                    try:
                        key = _key(keys, scan, targets[name], method, rois, tolerance)
                        found = store.get(key, name, scan.entry.name)
                        if found is None:
                            found = loaded.score(name, model, targets[name], method, cancel)
                            if cancel.is_set():  # the map may not be complete
                                continue
                            store.put(key, found)
                        rows.extend(found)
                    except Exception as exc:
                        if cancel.is_set():  # said by what was cancelled
                            continue
                        problems.append(f"{what}: {in_plain_words(exc, what)}")
                    done += 1
        if progress is not None:
            progress(Progress(total, total, "Scoring maps"))
        return BenchmarkResult(tuple(rows), tuple(problems), not cancel.is_set())
    finally:
        write_csv(Path(folder) / "scores.csv", ScoreRow.header(), [row.cells() for row in rows])


class _Loaded:
    """A scan with its regions, read when a method needs it."""

    def __init__(
        self, scan: BenchmarkScan, rois: Mapping[str, Sequence[int]], tolerance: float
    ) -> None:
        self._scan, self._rois, self._tolerance = scan, rois, tolerance
        self._read: ScanWithRegions | None = None
        self._near: dict[str, np.ndarray] = {}

    def score(
        self, name: str, model: Model, target: int, method: Method, cancel: threading.Event
    ) -> list[ScoreRow]:
        """The rows of all maps of a method; none if it does not apply."""
        if self._read is None:
            self._read = self._scan.read(self._rois)
            spacing = self._read.volume.spacing
            self._near = {
                region: near(mask, self._tolerance, spacing)
                for region, mask in self._read.regions.items()
            }
        volume, inside = self._read.volume, self._read.inside
        if not method.applies(model, model.conform(volume).data.shape):
            return []
        rows = []
        for facts, data in method.maps(Case(model, volume, inside, target, cancel)):
            ranked = RankedMap(data, inside)
            for region, mask in self._read.regions.items():
                scores = ranked.scores(mask, self._near[region])
                rows.append(ScoreRow(name, self._scan.entry.name, facts, region, scores))
        return rows


def _check_layers(models: Sequence[Model], layers: Sequence[str]) -> None:
    known = {
        name
        for model in models
        for name in (*model.target_layers, *model.layers().others)
        if layers
    }
    for layer in layers:
        if layer not in known:
            raise MethodError(
                f"No network has a target layer '{layer}'; there are {some_of(sorted(known), layer)}."
            )


def _key(
    keys: ResultKeys,
    scan: BenchmarkScan,
    target: int,
    method: Method,
    rois: Mapping[str, Sequence[int]],
    tolerance: float,
) -> str:
    """Follows from what the network, the files and the settings hold, not what they are called."""
    parts = {
        "network and scan": keys.prediction(scan_hash(scan.entry.path)),
        "files": [None if path is None else scan_hash(path) for path in scan.files],
        "target": target,
        "method": type(method).__name__,
        "settings": {f.name: _plain(getattr(method, f.name)) for f in fields(method)},
        "rois": {name: list(labels) for name, labels in rois.items()},
        "tolerance": float(tolerance),
    }
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Volume):
        digest = hashlib.sha256(np.ascontiguousarray(value.data))
        digest.update(value.affine.tobytes())
        return [value.name, digest.hexdigest()]
    return value
