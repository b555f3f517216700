"""Choose a checkpoint: drop a file, browse, or take a sample network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import QMimeData, Signal
from qtpy.QtWidgets import QHBoxLayout, QMenu, QToolButton, QWidget
from superqt import QElidingLabel

from napari_cnnvis._napari.widgets.file_dialogs import FileDialogs
from napari_cnnvis.sample_data import sample_networks

__all__ = ["ModelPicker"]

_FILTER = (
    "Checkpoints (*.safetensors *.pt *.pth *.ckpt *.pt2 *.ts *.npz *.onnx *.zip);;All files (*)"
)


class ModelPicker(QWidget):
    """Shows the checkpoint's name; emits ``chosen([path, ...])`` for dropped, browsed or sample files."""

    chosen = Signal(list)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._dialogs = FileDialogs(self, "checkpoint folder")
        self.setAcceptDrops(True)
        self.label = QElidingLabel("drop a file here")
        self.browse = QToolButton()
        self.browse.setText("Browse…")
        self.browse.setToolTip(
            "A .safetensors, PyTorch .pt/.pth/.ckpt, TorchScript, .pt2, ONNX or Lasagne .npz file, or the zip "
            "of a MONAI bundle; several at once if they hold parts of one network. Drop a folder here for "
            "a MONAI bundle or a ClinicaDL MAPS."
        )
        self.browse.clicked.connect(self._browse)
        self.samples = QToolButton()
        self.samples.setText("Samples")
        self.samples.setToolTip("Networks that come with the plugin.")
        self.samples.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.samples.setMenu(self._sample_menu())
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.label, 1)
        row.addWidget(self.browse)
        row.addWidget(self.samples)

    def _sample_menu(self) -> QMenu:
        menu = QMenu(self)
        for path in sample_networks():
            action = menu.addAction(path.stem)
            action.triggered.connect(lambda _=False, path=path: self.chosen.emit([str(path)]))
        return menu

    def show_none(self) -> None:
        """Show that no checkpoint is loaded."""
        self.label.setText("drop a file here")
        self.label.setToolTip("")

    def show_path(self, path: str | Path) -> None:
        """Show which checkpoint is loaded."""
        self.label.setText(Path(path).name)
        self.label.setToolTip(str(path))

    def _browse(self) -> None:
        paths = self._dialogs.open_files("Open a checkpoint", _FILTER)
        if paths:
            self.chosen.emit(paths)

    def dragEnterEvent(self, event: Any) -> None:
        if _dropped_files(event.mimeData()):
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:
        paths = _dropped_files(event.mimeData())
        if paths:
            event.acceptProposedAction()
            self.chosen.emit(paths)


def _dropped_files(mime: QMimeData) -> list[str]:
    return [url.toLocalFile() for url in mime.urls() if url.isLocalFile()]
