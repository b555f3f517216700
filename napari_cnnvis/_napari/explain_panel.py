"""The panel "Explain CNN": scan, checkpoint, method, run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_cnnvis._napari.docking import DockedPanel
from napari_cnnvis._napari.guide_window import add_help
from napari_cnnvis._napari.jobs import JobRunner, time_left
from napari_cnnvis._napari.method_form import MethodForm
from napari_cnnvis._napari.network_box import NetworkBox
from napari_cnnvis._napari.overlay import (
    OVERLAY_KEY,
    is_overlay,
    overlay_arguments,
    style_overlay,
)
from napari_cnnvis._napari.rerun import plan_rerun
from napari_cnnvis._napari.run_result import RunResult
from napari_cnnvis._napari.run_steps import head_of, run_request, summary_of
from napari_cnnvis.errors import CnnVisError, MethodError
from napari_cnnvis.explain.options import ExplainRequest
from napari_cnnvis.progress import Progress

__all__ = ["ExplainPanel"]


class ExplainPanel(DockedPanel):
    """Runs CAM, Grad-CAM, UCM sensitivity or box occlusion on a scan and shows the map as an overlay.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self._viewer = napari_viewer
        self._predictions: Any = None
        self._grid_shape: tuple[int, ...] | None = None
        self._overlay: Any = None
        self._pending: ExplainRequest | None = None
        self._result: RunResult | None = None
        self._hierarchy: tuple[Any, Any] | None = None
        self._began = 0.0
        self._failed = False
        self._running_layer: Any = None
        self._running_data: Any = None
        self._shown: Any = None
        self._head: Any = None
        self.jobs = JobRunner(self)
        self._build()
        add_help(self, "explain")
        self._connect()
        self._refresh()

    def _build(self) -> None:
        self.network = NetworkBox(self._viewer, self.jobs)
        self.scan = self.network.scan
        self.method_form = MethodForm(self._viewer, self.scan)

        content = QWidget()
        column = QVBoxLayout(content)
        column.addWidget(self.network)
        column.addWidget(self.method_form)
        column.addStretch()
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(content)

        self.run_button = QPushButton("Run")
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop; a sensitivity map is kept as far as it got.")
        self.bar = QProgressBar()
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.status.setMinimumHeight(6 * self.status.fontMetrics().lineSpacing())
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button, 2)
        buttons.addWidget(self.cancel_button, 1)

        layout = QVBoxLayout(self)
        layout.addWidget(scroll, 1)
        layout.addLayout(buttons)
        layout.addWidget(self.bar)
        layout.addWidget(self.status)
        self.setMinimumWidth(380)

    def _connect(self) -> None:
        self.network.scan_changed.connect(self._on_scan_changed)
        self.network.model_changed.connect(self._on_model_changed)
        self.method_form.view_changed.connect(self._on_view_changed)
        self.method_form.head_only_changed.connect(self._show_again)
        self.run_button.clicked.connect(lambda: self.run())
        self.cancel_button.clicked.connect(self.jobs.cancel)
        self.jobs.started.connect(self._on_started)
        self.jobs.progressed.connect(self._on_progressed)
        self.jobs.failed.connect(self._say_error)
        self.jobs.stopped.connect(self.status.setText)
        self.jobs.finished.connect(self._on_finished)
        self.destroyed.connect(lambda: (self.jobs.close(), self.network.preview.jobs.close()))

    # --- the network -------------------------------------------------------------

    def load_model(self, path: str | Path) -> None:
        """Load a checkpoint in the background and show what it is."""
        self.network.load(path)

    def use_model(self, model: Any) -> None:
        """Explain a `Model` made in Python, such as in the viewer's console."""
        self.network.use(model)

    @property
    def _model(self) -> Any:
        return self.network.model

    def _on_model_changed(self) -> None:
        self._forget_scan()
        self.status.setText("")
        self._refresh()
        if not self.jobs.busy:
            self._predict()

    def _forget_scan(self) -> None:
        self._predictions = self._grid_shape = self._result = None

    def scan_replaced(self, predictions: Any = None) -> None:
        """Notice that the scan layer's data was replaced in place by another scan.

        Its predictions are shown if they are known, else asked for in the background. The
        layers stay listed as for the last scan.
        """
        grid_shape = self._grid_shape
        self._forget_scan()
        self._shown = self._head = None
        self._predictions, self._grid_shape = predictions, grid_shape
        self._refresh()
        self.network.update_preview()
        if predictions is None and not self.jobs.busy:
            self._predict()

    def show_map(
        self, attribution: Any, layer: Any, request: Any = None, head: np.ndarray | None = None
    ) -> None:
        """Show a map of a scan layer that was computed elsewhere, in the panel's overlay.

        With its request the panel shows other views of it as of a run of its own; `head`
        says which voxels are the head's, for hiding the others.
        """
        if layer != self._running_layer:
            self._overlay = None
        self._running_layer, self._head = layer, head
        self._result = None if request is None else RunResult(request, attribution)
        self._show(attribution, layer)

    @property
    def result(self) -> RunResult | None:
        """What the last run of this scan gave."""
        return self._result

    @property
    def overlay_scan(self) -> Any:
        """The scan layer that the last map is of."""
        return self._running_layer

    @property
    def overlay(self) -> Any:
        """The layer that shows the last map, or None if it is gone."""
        return self._overlay if self._overlay in self._viewer.layers else None

    def _on_scan_changed(self) -> None:
        self._forget_scan()
        self._refresh()
        if not self.jobs.busy:
            self._predict()

    def _predict(self) -> None:
        """Ask the network what it says of the scan, in the background."""
        model = self._model
        if model is None or not self.network.has_input:
            return
        layers = self._input_layers()
        data = [layer.data for layer in layers]
        taken = self.network.snapshots()

        def job(progress: Any, cancel: Any) -> Any:
            volumes = self.network.volumes(taken)
            conformed = model.conform(volumes)
            model.layers(conformed.data.shape)  # finds them here, not on the main thread
            notes = [*(note for v in volumes for note in v.notes), *conformed.notes]
            return model.predict(volumes), conformed.data.shape, dict.fromkeys(notes)

        def done(result: Any) -> None:
            same = all(layer.data is d for layer, d in zip(layers, data, strict=True))
            if same and layers == self._input_layers() and model is self._model:
                self._predictions, self._grid_shape, notes = result
                self._refresh()
                if model.outputs.has_probabilities:
                    self.method_form.choose_class(int(self._predictions.argmax()))
                self.status.setText(" ".join(notes))

        self.jobs.start("Scoring the scan", job, done)

    def _input_layers(self) -> list[Any]:
        return [self.scan.layer, *self.network.channels.layers]

    @property
    def ready(self) -> bool:
        """True when a scan and a model are there and the scan was scored."""
        return self._model is not None and self._predictions is not None

    # --- running -----------------------------------------------------------------

    def run_again(self, overlay: Any) -> None:
        """Load the network of a map and run the method as it was run, on the map's scan.

        Raises
        ------
        CnnVisError
            If the record does not say what to run, or the scan or the network is not there.
        """
        if self.jobs.busy:
            raise MethodError(
                "A job is running in the panel Explain CNN; wait for it or cancel it."
            )
        rerun = plan_rerun(overlay.metadata[OVERLAY_KEY], self._viewer.layers, self.network.loaded)
        self.scan.choose(rerun.scan)
        self._pending = rerun.request
        if rerun.path is None:
            self._run_pending()
        else:
            self.network.load(rerun.path, rerun.recipe)

    def _run_pending(self) -> None:
        """Run what `run_again` asked for, as soon as the network and its layers are there."""
        if self._pending is None or self.jobs.busy or not self.ready:
            return
        request, self._pending = self._pending, None
        self.method_form.show_request(request, self._model.class_names)
        self.run()

    def run(self) -> None:
        """Run the chosen method and add its map as a layer."""
        model, layer = self._model, self.scan.layer
        if model is None or not self.network.has_input or self.jobs.busy:
            return
        taken = self.network.snapshots()
        try:
            request = self.method_form.request()
        except CnnVisError as exc:
            self._say_error(str(exc))
            return
        make_hierarchy = None
        if request.method == "sensitivity":
            make_hierarchy = self.method_form.hierarchy.maker()
        scan_data = layer.data
        built = None
        if self._hierarchy is not None and self._hierarchy[0] is scan_data:
            built = self._hierarchy[1]
        self._overlay = self._result = self._shown = None
        self.method_form.show_baselines(())

        def job(progress: Any, cancel: Any) -> Any:
            volumes = self.network.volumes(taken)
            hierarchy = built if make_hierarchy is None else make_hierarchy()
            result = run_request(model, volumes, request, hierarchy, progress, cancel)
            return result, head_of(volumes[0])

        def done(outcome: Any) -> None:
            result, head = outcome
            if layer.data is not scan_data:
                self.status.setText("The scan was replaced during the run; run again for this one.")
                return
            self._head = head
            self._result = RunResult(request, result)
            attribution = self._result.attribution
            if request.method == "sensitivity" and make_hierarchy is None:
                self._hierarchy = scan_data, attribution.regions.hierarchy
            self.method_form.show_baselines(self._result.baselines)
            self.method_form.show_levels(self._result.levels)
            self._show(attribution, layer)
            self.status.setText(summary_of(attribution, self._head))

        self._running_layer, self._running_data = layer, scan_data
        self.jobs.start(self.method_form.description(), job, done)

    def _show(self, attribution: Any, layer: Any) -> None:
        """Show a map in the run's overlay, which is added if it is not there (any more)."""
        self._shown = attribution
        data = attribution.data
        if self.method_form.head_only.isChecked() and self._head is not None:
            data = np.where(self._head, data, np.float32(0))
        if self._overlay is not None and self._overlay in self._viewer.layers:
            style_overlay(self._overlay, attribution, data)
            return
        for other in self._viewer.layers:
            if is_overlay(other):
                other.visible = False  # one map at a time; the eye brings it back
        arguments = overlay_arguments(attribution, layer, data)
        self._overlay = self._viewer.add_image(data, **arguments)
        self._overlay.colorbar.visible = True

    def _on_view_changed(self) -> None:
        """Another layer, class, score or baseline of a run that is kept: show it at once."""
        if self._result is None or self.jobs.busy or self._overlay not in self._viewer.layers:
            return
        try:
            request = self.method_form.request()
            attribution = self._result.view(
                request, self.method_form.shown_baseline, self.method_form.weights.weights()
            )
        except CnnVisError as exc:
            self._say_error(str(exc))
            return
        if attribution is not None:
            self._show(attribution, self._running_layer)
            self.status.setText(summary_of(attribution, self._head))

    def _show_again(self) -> None:
        if self._shown is not None and self._overlay in self._viewer.layers:
            self._show(self._shown, self._running_layer)

    def _on_started(self, what: str) -> None:
        self._began = time.monotonic()
        self.bar.setRange(0, 0)
        self.status.setText(what + " …")
        self._refresh()

    def _on_progressed(self, progress: Progress) -> None:
        self.bar.setRange(0, progress.total)
        self.bar.setValue(progress.done)
        left = time_left(progress, time.monotonic() - self._began)
        counts = f"{progress.what}: {progress.done} of {progress.total}"
        self.status.setText(", ".join(filter(None, [counts[0].upper() + counts[1:], left])))
        same = self._running_layer is not None and self._running_layer.data is self._running_data
        if progress.partial is not None and same:
            self._show(progress.partial, self._running_layer)

    def _on_finished(self) -> None:
        self._refresh()
        if self.jobs.busy:  # the next one was started already
            return
        if self._model is not None and self._predictions is None and not self._failed:
            self._predict()
            return
        self._run_pending()

    def _say_error(self, text: str) -> None:
        self._failed, self._pending = True, None
        self.status.setText(f"⚠ {text}")
        self.network.on_failed()

    # --- what is shown -----------------------------------------------------------

    def _refresh(self) -> None:
        """Bring every widget in line with the scan, the model and the running job."""
        busy = self.jobs.busy
        ready = self._model is not None and self.network.has_input
        self.run_button.setEnabled(ready and not busy)
        self.cancel_button.setEnabled(busy)
        self.bar.setVisible(busy)
        self.method_form.setEnabled(self._model is not None)
        if busy:
            self._failed = False
        if self._model is not None and not self._failed:
            self.method_form.show_model(self._model, self._grid_shape)
        self.network.refresh(self._predictions)
