"""A dropdown of the viewer's scans that follows the layer list."""

from __future__ import annotations

from typing import Any

from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QWidget

from napari_cnnvis._napari.overlay import is_overlay

__all__ = ["LayerPicker"]


class LayerPicker(QComboBox):
    """Lists 3D image layers that are not overlays; holds layer objects, not names."""

    layer_changed = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layers = viewer.layers
        self._current: Any = None
        events = viewer.layers.events
        self._sources = [events.inserted, events.removed, events.reordered, events.renamed]
        for source in self._sources:
            source.connect(self._refresh)
        self.currentIndexChanged.connect(self._on_index)
        self.destroyed.connect(lambda: self.disconnect_viewer())
        self._refresh()

    def disconnect_viewer(self) -> None:
        """Stop following the layer list."""
        for source in self._sources:
            source.disconnect(self._refresh)
        self._sources = []

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        return self.currentData()

    def choose(self, layer: Any) -> None:
        """Select a layer."""
        self.setCurrentIndex(self.findData(layer))

    def _refresh(self, event: Any = None) -> None:
        chosen = self.currentData()
        self.blockSignals(True)
        self.clear()
        for layer in self._layers:
            if isinstance(layer, Image) and layer.ndim == 3 and not is_overlay(layer):
                self.addItem(layer.name, layer)
        index = self.findData(chosen)
        self.setCurrentIndex(index if index >= 0 else self.count() - 1)
        self.blockSignals(False)
        self._on_index()

    def _on_index(self, index: int = -1) -> None:
        if self.currentData() is not self._current:
            self._current = self.currentData()
            self.layer_changed.emit()
