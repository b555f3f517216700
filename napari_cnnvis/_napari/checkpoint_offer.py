"""A checkpoint picker that shows up where a network is lacking."""

from __future__ import annotations

from qtpy.QtWidgets import QWidget

from napari_cnnvis._napari.model_picker import ModelPicker
from napari_cnnvis._napari.session import Session

__all__ = ["CheckpointOffer"]


class CheckpointOffer(ModelPicker):
    """Hidden until it is offered; loads the chosen checkpoint into the viewer's session.

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self.hide()
        self.chosen.connect(self._on_chosen)
        session.model_changed.connect(self._on_model)

    def offer(self) -> None:
        """Show the picker until a network is loaded."""
        self.show_none()
        self.show()

    def _on_chosen(self, path: str) -> None:
        self._session.load(path)

    def _on_model(self) -> None:
        if self._session.model is not None:
            self.hide()
        elif self._session.path is not None:
            self.show_path(self._session.path)
