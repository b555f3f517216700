"""Scan and network: choose both, say what the checkpoint does not, see what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QWidget,
)

from napari_cnnvis._napari.channel_pickers import ChannelPickers
from napari_cnnvis._napari.input_preview import InputPreview
from napari_cnnvis._napari.jobs import JobRunner
from napari_cnnvis._napari.layer_picker import LayerPicker
from napari_cnnvis._napari.layers import layer_to_volume, snapshot
from napari_cnnvis._napari.model_picker import ModelPicker
from napari_cnnvis._napari.model_settings import ModelSettings
from napari_cnnvis._napari.preferences import preference
from napari_cnnvis._napari.text_window import show_text
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.models.recipes import Recipe

__all__ = ["NetworkBox"]

_NO_SCAN = "Open a scan first: drop a NIfTI file on the viewer, or File > Open Sample > CNN Vis."
_NO_MODEL = "Choose a checkpoint: drop a file here, or press Browse."


class NetworkBox(QGroupBox):
    """Holds the scan, the checkpoint and the model that was loaded from it.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    jobs : JobRunner
        Loads in the background.
    """

    #: another model, or none
    model_changed = Signal()
    #: other layers are the input
    scan_changed = Signal()

    def __init__(self, viewer: Any, jobs: JobRunner, parent: QWidget | None = None) -> None:
        super().__init__("Scan and network", parent)
        self._jobs = jobs
        self._cache: Any = None
        self.loaded: Any = None
        self.path: Path | None = None
        self.scan = LayerPicker(viewer)
        self.scan.setToolTip("The image layer that the network is run on.")
        self.scan.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.picker = ModelPicker()
        self.recognised = QLabel()
        self.recognised.setWordWrap(True)
        self.recognised.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.report = _button("Report…", "What the checkpoint holds and what it can be used for.")
        self.more = _button("Settings", "Architecture, classes and input of the network.")
        self.more.setCheckable(True)
        self.unload = _button("Unload", "Forget the network and free its memory.")
        self.settings = ModelSettings()
        self.settings.hide()
        self.preview = InputPreview(viewer)
        buttons = QHBoxLayout()
        for button in (self.report, self.more, self.unload):
            buttons.addWidget(button)
        self.form = QFormLayout(self)
        self.form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self.form.addRow("Scan", self.scan)
        self.form.addRow("Checkpoint", self.picker)
        self.form.addRow(self.recognised)
        self.form.addRow(buttons)
        self.form.addRow(self.settings)
        self.channels = ChannelPickers(viewer, self.form, self.scan_changed)
        self.scan.layer_changed.connect(self.scan_changed)
        self.scan_changed.connect(self.update_preview)
        self.picker.chosen.connect(self.load)
        self.report.clicked.connect(self._show_report)
        self.more.toggled.connect(self.settings.setVisible)
        self.unload.clicked.connect(self.forget)
        self.settings.applied.connect(self._apply)
        self.settings.input_changed.connect(self.update_preview)
        self.settings.preview_toggled.connect(self.update_preview)
        self.refresh(None)

    @property
    def model(self) -> Any:
        """The loaded model, or None."""
        return None if self.loaded is None else self.loaded.model

    # --- the input -----------------------------------------------------------------

    @property
    def has_input(self) -> bool:
        """Whether there is a layer for every input channel."""
        return self.scan.layer is not None and None not in self.channels.layers

    def snapshots(self) -> list[Any]:
        """What `volumes` makes the input of, taken on the main thread."""
        return [snapshot(layer) for layer in (self.scan.layer, *self.channels.layers)]

    @staticmethod
    def volumes(snapshots: list[Any]) -> tuple[Any, ...]:
        """The volumes, one for each channel; to be called in a worker.

        Raises
        ------
        VolumeError
            If a layer is not one plain 3D image.
        """
        return tuple(layer_to_volume(*taken) for taken in snapshots)

    # --- the network ---------------------------------------------------------------

    def load(self, path: str | Path, recipe: Recipe | None = None) -> None:
        """Load a checkpoint in the background; see `CheckpointCache.load`."""
        path = Path(path)
        if self._jobs.busy:
            return
        if path != self.path:
            self.loaded = None
            self.settings.show_unknown()
            self.model_changed.emit()
        self.path = path
        self.picker.show_path(path)
        trust = self.settings.trust.isChecked()
        scan = self.scan.layer
        shape = None if scan is None or scan.ndim != 3 or scan.multiscale else scan.data.shape
        if self._cache is None:
            from napari_cnnvis.models.cache import CheckpointCache

            self._cache = CheckpointCache()
        cache = self._cache
        device = preference("device")

        def job(progress: Any, cancel: Any) -> Any:
            loaded = cache.load(path, recipe, trust, device, shape, cancel)
            if recipe is not None:
                from napari_cnnvis.models.recipes import remember

                remember(loaded.digest, recipe)
            return loaded

        self._jobs.start(f"Loading {path.name}", job, self._show)

    def use(self, model: Any) -> None:
        """Take a model that was made in Python, such as in the viewer's console."""
        from napari_cnnvis.models.cache import LoadedCheckpoint
        from napari_cnnvis.models.doctor import report_on

        self.path = None
        self._show(LoadedCheckpoint("", Recipe(), model, report_on(None, model)))

    def _show(self, loaded: Any) -> None:
        self.loaded = loaded
        self.settings.show_model(loaded.recipe, loaded.model)
        self.channels.show_number(loaded.model.input_spec.channels)
        self.model_changed.emit()
        self.update_preview()

    def forget(self) -> None:
        """Unload the network."""
        if self._jobs.busy:
            return
        self.loaded = self.path = None
        if self._cache is not None:
            self._cache.clear()
        self.picker.show_none()
        self.settings.show_unknown()
        self.channels.show_number(1)
        self.model_changed.emit()
        self.update_preview()

    def on_failed(self) -> None:
        """After a job failed: open the settings if they can mend it, and fill in what may help."""
        error = self._jobs.error
        if self.loaded is None and self.path is not None:
            self.more.setChecked(True)
        if suggestion := getattr(error, "suggestion", ""):
            self.settings.suggest(suggestion)
        fits = getattr(error, "fits", None)
        if fits is not None:
            self.more.setChecked(True)
            self.settings.offer(fits)

    def _apply(self) -> None:
        if self.path is None:
            return
        channels = None if self.loaded is None else self.model.input_spec.channels
        try:
            self.load(self.path, self.settings.recipe(channels))
        except CnnVisError:  # said in the settings
            return

    # --- what is shown -------------------------------------------------------------

    def refresh(self, predictions: Any) -> None:
        """Bring the widgets in line with the model and what it says of the scan."""
        busy = self._jobs.busy
        for widget in (self.picker, self.scan, self.settings, *self.channels.pickers):
            widget.setEnabled(not busy)
        self.report.setEnabled(self.loaded is not None)
        self.unload.setEnabled(self.loaded is not None and not busy)
        self.more.setEnabled(self.path is not None)
        self.recognised.setText(self._text(predictions))

    def _text(self, predictions: Any) -> str:
        hint = _NO_SCAN if self.scan.layer is None else ""
        if self.loaded is None:
            return hint or (_NO_MODEL if self.path is None else "")
        model = self.model
        weights = self.loaded.report.n_parameters
        lines = [f"<b>{model.architecture}</b>, {weights:,} weights, on {model.device}"]
        if predictions is None:
            lines.append("Classes: " + ", ".join(model.class_names))
        else:
            pairs = model.described(predictions)
            lines.append("This scan: " + ", ".join(f"{n} <b>{v}</b>" for n, v in pairs))
        lines += [*model.notes, *([hint] if hint else [])]
        return "<br>".join(lines)

    def update_preview(self) -> None:
        """Show what the network sees of the scan, if that is asked for."""
        wanted = self.settings.preview.isChecked() and self.loaded is not None and self.has_input
        if not wanted:
            self.preview.remove()
            return
        try:
            spec = self.settings.input.spec()
        except CnnVisError:  # said in the settings
            return
        self.preview.show(self.snapshots(), spec)

    def _show_report(self) -> None:
        report = self.loaded.report
        rows = (f"<tr><td><b>{a}</b>&nbsp;&nbsp;</td><td>{b}</td></tr>" for a, b in report.rows())
        table = f"<table cellspacing='6'>{''.join(rows)}</table>"
        show_text(self, f"Report: {Path(report.path).name}", table)


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    return button
