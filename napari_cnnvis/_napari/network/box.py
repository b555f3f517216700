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
from superqt.utils import signals_blocked

from napari_cnnvis._napari.network.channel_pickers import ChannelPickers
from napari_cnnvis._napari.network.head_row import HeadRow
from napari_cnnvis._napari.network.input_preview import InputPreview
from napari_cnnvis._napari.network.model_picker import ModelPicker
from napari_cnnvis._napari.network.model_settings import ModelSettings
from napari_cnnvis._napari.session.session import Session
from napari_cnnvis._napari.widgets.layer_picker import LayerPicker
from napari_cnnvis._napari.widgets.text_window import show_text
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.models.settings import Recipe

__all__ = ["NetworkBox"]

_NO_MODEL = "Choose a checkpoint: drop a file here, or press Browse."


class NetworkBox(QGroupBox):
    """Shows and chooses the scan and the network of the viewer's session.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    session : Session
    """

    #: another layer was chosen here
    picked = Signal()

    def __init__(self, viewer: Any, session: Session, parent: QWidget | None = None) -> None:
        super().__init__("Scan and network", parent)
        self._session = session
        self.scan = LayerPicker(viewer)
        self.scan.setToolTip("The image layer that the network is run on.")
        self.scan.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.head = HeadRow(viewer, session)
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
        self.form.addRow("Head", self.head)
        self.form.addRow("Checkpoint", self.picker)
        self.form.addRow(self.recognised)
        self.form.addRow(buttons)
        self.form.addRow(self.settings)
        self.channels = ChannelPickers(viewer, self.form, self.picked)
        self.scan.layer_changed.connect(self.picked)
        self.picked.connect(self._on_picked)
        self.picker.chosen.connect(self._on_chosen)
        self.report.clicked.connect(self._show_report)
        self.more.toggled.connect(self.settings.setVisible)
        self.unload.clicked.connect(self.forget)
        session.model_changed.connect(self._on_model)
        session.scan_changed.connect(self._on_scan)
        session.failed.connect(self._on_failed)
        self.settings.applied.connect(self._apply)
        self.settings.input_changed.connect(self.update_preview)
        self.settings.preview_toggled.connect(self.update_preview)
        if session.scan is not None:
            self.scan.choose(session.scan)
        self._on_model()

    @property
    def loaded(self) -> Any:
        """The `LoadedCheckpoint` of the session, or None."""
        return self._session.loaded

    @property
    def path(self) -> Path | None:
        """The checkpoint that was chosen last, loaded or not."""
        return self._session.path

    @property
    def model(self) -> Any:
        """The loaded model, or None."""
        return self._session.model

    # --- the input -----------------------------------------------------------------

    def _on_picked(self) -> None:
        self._session.choose(self.scan.layer, tuple(self.channels.layers))
        if self.scan.layer is None:  # also where why there is none has changed
            self.recognised.setText(self._text())

    def _on_scan(self) -> None:
        """The session has other layers as its input, chosen here or elsewhere."""
        pickers = (self.scan, *self.channels.pickers)
        with signals_blocked(self):
            for picker, layer in zip(pickers, self._session.inputs, strict=False):
                picker.choose(layer)
        self.update_preview()

    # --- the network ---------------------------------------------------------------

    def load(self, path: str | Path | list[str], recipe: Recipe | None = None) -> None:
        """Load a checkpoint in the background; see `CheckpointCache.load`."""
        first = Path(path[0] if isinstance(path, list) else path)
        trust = first == self.path and self.settings.trust.isChecked()
        self._session.load(path, recipe, trust)

    def _on_chosen(self, paths: list[str]) -> None:
        self.load(paths)

    def forget(self) -> None:
        """Unload the network."""
        self._session.forget()

    def _on_model(self) -> None:
        """Show the session's network, or that there is none."""
        if self.path is None:
            self.picker.show_none()
        else:
            self.picker.show_path(self.path)
        if self.loaded is not None:
            self.settings.show_model(self.loaded.recipe, self.model)
            self.channels.show_number(self.model.input_spec.channels)
        else:
            self.settings.show_unknown()
            if self.path is None:
                self.channels.show_number(1)
        self._on_picked()
        self.update_preview()

    def _on_failed(self) -> None:
        """After a job failed: open the settings if they can fix it, and fill in what may help."""
        error = self._session.jobs.error
        if self.loaded is None and self.path is not None:
            self.more.setChecked(True)
            self.settings.show_tried(self._session.opened.tried, self.path)
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

    def refresh(self) -> None:
        """Bring the widgets in line with the model and what it says of the scan."""
        busy = self._session.jobs.busy
        widgets = (self.picker, self.scan, self.head.picker, self.settings)
        for widget in (*widgets, *self.channels.pickers):
            widget.setEnabled(not busy)
        self.report.setEnabled(self.loaded is not None)
        self.unload.setEnabled(self.loaded is not None and not busy)
        self.more.setEnabled(self.path is not None)
        self.recognised.setText(self._text())

    def _text(self) -> str:
        predictions = self._session.predictions
        hint = self.scan.hint
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
        wanted = self.settings.preview.isChecked() and self.loaded is not None
        wanted = wanted and self._session.has_input
        if not wanted:
            self.preview.remove()
            return
        try:
            spec = self.settings.input.spec()
        except CnnVisError:  # said in the settings
            return
        self.preview.show(self._session.snapshots(), spec)

    def _show_report(self) -> None:
        report = self.loaded.report
        rows = (f"<tr><td><b>{a}</b>&nbsp;&nbsp;</td><td>{b}</td></tr>" for a, b in report.rows())
        table = f"<table cellspacing='6'>{''.join(rows)}</table>"
        show_text(self, f"Report: {Path(report.path).name}", table)


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    return button
