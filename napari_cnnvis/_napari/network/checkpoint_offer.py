"""A checkpoint picker that shows up where a network is lacking."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QWidget

from napari_cnnvis._napari.network.model_picker import ModelPicker
from napari_cnnvis._napari.session.session import Session

__all__ = ["CheckpointOffer"]


class CheckpointOffer(ModelPicker):
    """Hidden until it is offered; loads the chosen checkpoint into the viewer's session.

    Parameters
    ----------
    session : Session
    """

    #: a sentence about the checkpoint that was chosen here
    said = Signal(str)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._loading = False
        self.hide()
        self.chosen.connect(self._load)
        session.failed.connect(self._on_failed)
        session.idle.connect(self._on_idle)
        session.model_changed.connect(self._on_model)

    def offer(self) -> None:
        """Show the picker until a network is loaded."""
        self.show_none()
        self.show()

    def _load(self, paths: list[str]) -> None:
        if self._session.jobs.busy:
            self.said.emit("⚠ The network is at work; wait until it has finished, or cancel that.")
            return
        self._loading = True
        self.show_path(paths[0])
        self.said.emit(f"Loading {Path(paths[0]).name} …")
        self._session.load(paths)

    def _on_failed(self, text: str) -> None:
        if self._loading:
            self._loading = False
            self.show_none()
            self.said.emit(f"⚠ {text}")

    def _on_idle(self) -> None:
        if self._loading and self._session.model is not None:
            self._loading = False
            self.said.emit(f"{Path(self._session.path or '').name} is loaded.")

    def _on_model(self) -> None:
        if self._session.model is not None:
            self.hide()
