"""What is at work in one viewer: scan, network, request, jobs, last result."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_cnnvis._napari.layers.one_volume import shape_of
from napari_cnnvis._napari.layers.scans import layer_to_volume, snapshot
from napari_cnnvis._napari.session.asked_request import AskedRequest
from napari_cnnvis._napari.session.rerun import Rerun, plan_rerun
from napari_cnnvis._napari.session.run_result import RunResult
from napari_cnnvis._napari.session.run_steps import (
    BuiltHierarchy,
    OpenedCheckpoints,
    described,
    head_or_none,
    loaded_by,
    made_in_python,
    numbered,
    run_request,
    scored,
    summary_of,
)
from napari_cnnvis._napari.session.scan_heads import ScanHeads
from napari_cnnvis._napari.session.shown_map import ShownMap
from napari_cnnvis._napari.widgets.jobs import JobRunner
from napari_cnnvis._napari.widgets.preferences import preference
from napari_cnnvis.errors import CnnVisError, MethodError
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.models.settings import Recipe
from napari_cnnvis.progress import Progress

__all__ = ["Session"]


class Session(QObject):
    """Holds what the panels of a viewer share; they listen to it and not to each other.

    Get it by `session_of`. It lives as long as a panel uses it.

    Parameters
    ----------
    viewer : napari.viewer.Viewer

    Attributes
    ----------
    jobs : JobRunner
        What needs the network, one job at a time.
    loaded : LoadedCheckpoint or None
        The network with what is known of its checkpoint.
    path : Path or None
        The checkpoint that was chosen last, loaded or not.
    scan : layer or None
        The image layer that the network is run on.
    channels : tuple of layers
        Its input channels beyond the first; None where none is chosen.
    predictions : array or None
        What the network says of the scan, once it was scored.
    grid_shape : tuple of int or None
        Voxels of the network's input.
    result : RunResult or None
        What the last run of the scan gave.
    opened : OpenedCheckpoints
        The networks that were loaded last, and how the last one was taken.
    map : ShownMap
        The last map in the viewer.
    heads : ScanHeads
        The heads of the scans in the viewer.
    asked : AskedRequest
        The method and its parameters as they are set.
    """

    #: another network, or none
    model_changed = Signal()
    #: other layers are the input
    scan_changed = Signal()
    #: what the network says of the scan came or went
    predictions_changed = Signal()
    #: it was scored just now; what is to be said about that
    scored = Signal(str)
    #: another method or parameter was chosen, and some quiet followed
    request_changed = Signal()
    #: a run gave a result, or that does not count any more
    result_changed = Signal()
    #: a sentence about the map that a run gave
    said = Signal(str)
    #: of the jobs; see `JobRunner`
    started = Signal(str)
    progressed = Signal(object)
    failed = Signal(str)
    stopped = Signal(str)
    #: a job came to its end
    idle = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._tickets = itertools.count()
        self._users: set[int] = set()
        self.opened = OpenedCheckpoints()
        self._pending: Rerun | None = None
        self._hierarchy: BuiltHierarchy | None = None
        self._running_data: Any = None
        self.closed = False  #: no panel uses it any more
        #: the last job failed, and none was started since
        self.failing = False
        self.loaded: Any = None
        self.path: Path | None = None
        self.scan: Any = None
        self.channels: tuple[Any, ...] = ()
        self.predictions: Any = None
        self.grid_shape: tuple[int, ...] | None = None
        self.result: RunResult | None = None
        self.map = ShownMap(viewer)
        self.heads = ScanHeads(viewer, self.map, self)
        self.heads.said.connect(self.said)
        self.heads.idle.connect(self._run_pending)
        self.jobs = JobRunner(self)
        self.jobs.started.connect(self._on_started)
        self.jobs.progressed.connect(self._on_progressed)
        self.jobs.failed.connect(self._on_failed)
        self.jobs.stopped.connect(self.stopped)
        self.jobs.finished.connect(self._on_finished)
        self.asked = AskedRequest(self)
        self.asked.changed.connect(self.request_changed)

    # --- who uses it -----------------------------------------------------------------

    def enter(self) -> int:
        """Note that a panel uses the session; the number is for `leave`."""
        ticket = next(self._tickets)
        self._users.add(ticket)
        return ticket

    def leave(self, ticket: int, *_: Any) -> None:
        """Note that a panel was closed; after the last one jobs end and the network goes."""
        if ticket not in self._users:
            return
        self._users.remove(ticket)
        if not self._users:
            self.jobs.close()
            self.heads.close()
            self.loaded = self._pending = self._hierarchy = None
            self.opened.clear()
            self.closed = True
            self.deleteLater()  # here, not where Python happens to collect it

    # --- the scan --------------------------------------------------------------------

    @property
    def inputs(self) -> list[Any]:
        """The layers that are the network's input channels; None where none is chosen."""
        return [self.scan, *self.channels]

    @property
    def has_input(self) -> bool:
        """Whether there is a layer for every input channel."""
        there = all(layer is not None and layer in self._viewer.layers for layer in self.inputs)
        expected = 1 if self.model is None else max(self.model.input_spec.channels, 1)
        return there and len(self.inputs) == expected

    def snapshots(self) -> list[Any]:
        """What `layer_to_volume` makes the input of, taken on the main thread."""
        return [snapshot(layer) for layer in self.inputs]

    def choose(self, scan: Any, channels: tuple[Any, ...] = ()) -> None:
        """Take other layers as the input, and score them in the background."""
        if [scan, *channels] == self.inputs:
            return
        self.scan, self.channels = scan, tuple(channels)
        self._forget_scan()
        self.scan_changed.emit()
        self._predict()

    def scan_replaced(self, predictions: Any = None) -> None:
        """Notice that the scan layer's data was replaced in place by another scan.

        Its predictions are shown if they are known, else asked for in the background. The
        target layers stay listed as for the last scan.
        """
        grid_shape = self.grid_shape
        self.heads.lose(self.scan, "The head mask was that of another scan.")
        self.map.scan_replaced()
        self._forget_scan()
        self.predictions, self.grid_shape = predictions, grid_shape
        self.predictions_changed.emit()
        self.scan_changed.emit()
        if predictions is None:
            self._predict()

    def _forget_scan(self) -> None:
        self.predictions = self.grid_shape = None
        self._set_result(None)

    def _set_result(self, result: RunResult | None) -> None:
        if result is not self.result:
            self.result = result
            self.result_changed.emit()

    # --- the network -----------------------------------------------------------------

    @property
    def model(self) -> Any:
        """The loaded model, or None."""
        return None if self.loaded is None else self.loaded.model

    @property
    def ready(self) -> bool:
        """True when a scan and a model are there and the scan was scored."""
        return self.model is not None and self.predictions is not None

    def load(
        self, path: str | Path | list[str], recipe: Recipe | None = None, trust: bool = False
    ) -> None:
        """Load a checkpoint of one file or several in the background; see `CheckpointCache.load`."""
        paths = [Path(one) for one in (path if isinstance(path, list) else [path])]
        path = paths[0]
        if self.jobs.busy:
            return
        if path != self.path:
            self.loaded, self.path = None, path
            self._forget_scan()
            self.model_changed.emit()
        shape = None if self.scan is None else shape_of(self.scan)
        cache, device = self.opened, preference("device")

        def job(progress: Any, cancel: Any) -> Any:
            return loaded_by(cache, paths, recipe, trust, device, shape, cancel)

        self.jobs.start(f"Loading {path.name}", job, self._take)

    def use(self, model: Any) -> None:
        """Take a model that was made in Python, such as in the viewer's console."""
        self.path = None
        self._take(made_in_python(model))

    def forget(self) -> None:
        """Unload the network."""
        if self.jobs.busy:
            return
        self.loaded = self.path = None
        self.opened.clear()
        self._forget_scan()
        self.model_changed.emit()

    def _take(self, loaded: Any) -> None:
        self.loaded, self.asked.last = loaded, None
        self._forget_scan()
        self.model_changed.emit()
        self._predict()

    def _predict(self) -> None:
        """Ask the network what it says of the scan, in the background."""
        model = self.model
        if model is None or self.jobs.busy or not self.has_input:
            return
        layers, data, taken = self.inputs, [one.data for one in self.inputs], self.snapshots()

        def job(progress: Any, cancel: Any) -> Any:
            return scored(model, tuple(layer_to_volume(*one) for one in taken))

        def done(result: Any) -> None:
            same = all(layer.data is d for layer, d in zip(layers, data, strict=True))
            if same and layers == self.inputs and model is self.model:
                self.predictions, self.grid_shape, notes = result
                self.predictions_changed.emit()
                self.scored.emit(" ".join(notes))

        self.jobs.start("Scoring the scan", job, done)

    # --- running ---------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether a method is being run on the scan."""
        return self._running_data is not None

    def run(self, request: ExplainRequest | None = None) -> None:
        """Run a request, or the method as it is set, and add its map as a layer."""
        if self.model is None or not self.has_input or self.jobs.busy:
            return
        try:
            request = self.asked.request() if request is None else request
        except CnnVisError as exc:
            self._on_failed(str(exc))
            return
        takes_regions = self.asked.form is not None and request.how.takes_hierarchy
        self._run(request, self.asked.form.hierarchy.maker() if takes_regions else None)

    def run_again(self, record: dict[str, Any]) -> None:
        """Load the network of a map and run the method as it was run, on the map's scan.

        Raises
        ------
        CnnVisError
            If the record does not say what to run, or the scan or the network is not there.
        """
        if self.jobs.busy:
            raise MethodError("The network is at work; wait until it has finished, or cancel that.")
        rerun = plan_rerun(record, self._viewer.layers, self.loaded)
        self.heads.restore(rerun.scan, *rerun.head)
        self._pending, loaded = rerun, self.loaded
        if rerun.path is not None:
            self.load(rerun.path, rerun.recipe)
        elif loaded.is_as(rerun.recipe):
            self.choose(rerun.scan, rerun.channels)
            self._run_pending()
        else:  # the same weights, with another input, classes or outputs since
            self.jobs.start("Setting up the network", rerun.setting_up(loaded), self._take)

    def stop_run(self) -> None:
        """Stop the run of a method, if there is one; other jobs go on."""
        if self.running:
            self.jobs.cancel()

    def show(self, attribution: Any, scan: Any, head: Any = None) -> None:
        """Show a map of a scan layer that was made elsewhere, in the overlay of the last map."""
        self.map.take(scan, head)
        self._set_result(None)
        self.map.show(attribution)
        if self.heads.choice(scan) is not None:
            self.heads.look(scan)

    def _run(self, request: ExplainRequest, make_hierarchy: Any) -> None:
        model, layer, scan_data = self.model, self.scan, self.scan.data
        taken = [self.heads.snapshot(layer), *self.snapshots()[1:]]
        mask, built = taken[0][1]["head"].get("head"), None
        if self._hierarchy is not None and self._hierarchy.is_of(scan_data, mask):
            built = self._hierarchy.hierarchy
        self.map.begin(layer)
        self._set_result(None)

        def job(progress: Any, cancel: Any) -> Any:
            volumes = tuple(layer_to_volume(*one) for one in taken)
            hierarchy = built if make_hierarchy is None else make_hierarchy()
            outcome = run_request(model, volumes, request, hierarchy, progress, cancel)
            return outcome, head_or_none(volumes[0])

        def done(made: Any) -> None:
            outcome, head = made
            if layer.data is not scan_data:
                self.said.emit("The scan was replaced during the run; run again for this one.")
                return
            self.map.head = head
            result = RunResult(request, outcome)
            attribution = result.attribution
            if request.how.takes_hierarchy and make_hierarchy is None:
                self._hierarchy = BuiltHierarchy(scan_data, mask, attribution.regions.hierarchy)
            self._set_result(result)
            self.map.show(attribution)
            self.said.emit(summary_of(attribution, head))

        self._running_data = scan_data
        self.jobs.start(described(request, model), job, done)

    def _run_pending(self) -> None:
        """Run what `run_again` asked for, as soon as the network and its layers are there."""
        pending = self._pending
        if pending is None or self.jobs.busy or self.heads.jobs.busy or self.model is None:
            return
        if self.heads.named(pending.scan) != pending.head:  # cannot be read any more, as was said
            self._pending = None
            return
        self.choose(pending.scan, pending.channels)
        if self.jobs.busy or not self.ready:
            return
        self._pending, request = None, numbered(pending.request, self.model)
        if self.asked.form is None:
            self.asked.last = request
        else:
            self.asked.form.show_request(pending.request, self.model.class_names)
        self.run(request)

    # --- jobs ------------------------------------------------------------------------

    def _on_started(self, what: str) -> None:
        self.failing = False
        self.started.emit(what)

    def _on_progressed(self, progress: Progress) -> None:
        same = self.running and self.map.scan.data is self._running_data
        if same and progress.partial is not None:
            self.map.show(progress.partial)
        self.progressed.emit(progress)

    def _on_failed(self, text: str) -> None:
        self.failing, self._pending = True, None
        self.failed.emit(text)

    def _on_finished(self) -> None:
        self._running_data = None
        if not self.jobs.busy:  # else the next one was started already
            if self.predictions is None and not self.failing:
                self._predict()
            self._run_pending()
        self.idle.emit()
