"""A dropdown of the viewer's layers, such as its scans, that follows the layer list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QWidget
from superqt.utils import signals_blocked

from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis._napari.layers.metadata import is_aside
from napari_cnnvis._napari.layers.regions import regions_of

__all__ = ["LayerPicker", "is_scan"]


def is_scan(layer: Any) -> bool:
    """Whether a layer is a 3D image, and not a map, contours or a network's input."""
    image = isinstance(layer, Image) and layer.ndim == 3
    return image and not is_aside(layer) and map_of(layer) is None and regions_of(layer) is None


class LayerPicker(QComboBox):
    """Lists the layers that fit; holds layer objects, not names.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    fits : callable
        Says of a layer whether it is listed, such as `map_of`; scans by default.
    none : str, optional
        The first entry, which stands for no layer.
    """

    layer_changed = Signal()

    def __init__(
        self,
        viewer: Any,
        fits: Callable[[Any], Any] = is_scan,
        none: str | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._layers = viewer.layers
        self._fits = fits
        self._none = none
        self._current: Any = None
        events = viewer.layers.events
        self._sources = [events.inserted, events.removed, events.reordered, events.renamed]
        for source in self._sources:
            source.connect(self.refresh)
        self.currentIndexChanged.connect(self._on_index)
        self.destroyed.connect(lambda: self.disconnect_viewer())
        self.refresh()

    def disconnect_viewer(self) -> None:
        """Stop following the layer list."""
        for source in self._sources:
            source.disconnect(self.refresh)
        self._sources = []

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        return self.currentData()

    def choose(self, layer: Any) -> None:
        """Select a layer, if it is listed."""
        listed = [self.itemData(index) for index in range(self.count())]
        if layer in listed:  # also a proxy of it
            self.setCurrentIndex(listed.index(layer))

    def refresh(self, event: Any = None) -> None:
        """List the layers again; the chosen one stays while it fits."""
        chosen = self.currentData()
        with signals_blocked(self):
            self.clear()
            if self._none is not None:
                self.addItem(self._none, None)
            for layer in self._layers:
                if self._fits(layer):
                    self.addItem(layer.name, layer)
            index = -1 if chosen is None else self.findData(chosen)
            otherwise = self.count() - 1 if self._none is None else 0
            self.setCurrentIndex(index if index >= 0 else otherwise)
        self._on_index()

    def _on_index(self, index: int = -1) -> None:
        if self.currentData() is not self._current:
            self._current = self.currentData()
            self.layer_changed.emit()
