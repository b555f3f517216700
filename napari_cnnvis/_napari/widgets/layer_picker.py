"""A dropdown of the viewer's layers, such as its scans, that follows the layer list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.layers import Image
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QWidget
from superqt.utils import signals_blocked

from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis._napari.layers.metadata import is_aside
from napari_cnnvis._napari.layers.one_volume import image_problem
from napari_cnnvis._napari.layers.regions import regions_of

__all__ = ["LayerPicker", "is_scan"]

_NO_SCAN = "Open a scan first: drop a NIfTI file on the viewer, or File > Open Sample > CNN Vis."


def is_scan(layer: Any) -> bool:
    """Whether a layer is an image of one volume, and not a map, contours or a network's input."""
    return _is_image(layer) and not image_problem(layer)


def _is_image(layer: Any) -> bool:
    own = is_aside(layer) or map_of(layer) is not None or regions_of(layer) is not None
    return isinstance(layer, Image) and layer.ndim >= 3 and not own


class LayerPicker(QComboBox):
    """Lists the layers that fit; holds layer objects, not names.

    Images that are not one volume are listed too where scans are, greyed; why is in their tooltip.

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
        self._said = ""
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

    @property
    def hint(self) -> str:
        """What to do where no scan is chosen; "" where one is."""
        if self.layer is not None:
            return ""
        return next((text for _, text in reversed(self._left_out())), _NO_SCAN)

    def _left_out(self) -> list[tuple[Any, str]]:
        """Images that would be scans if they were one volume, and why they are not."""
        if self._fits is not is_scan:
            return []
        found = [(layer, image_problem(layer)) for layer in self._layers if _is_image(layer)]
        return [(layer, problem) for layer, problem in found if problem]

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
            for layer, problem in self._left_out():
                self.addItem(f"{layer.name} (not one volume)", None)
                self.setItemData(self.count() - 1, problem, Qt.ItemDataRole.ToolTipRole)
                self.model().item(self.count() - 1).setEnabled(False)
            self.setCurrentIndex(index if index >= 0 else otherwise)
        self._on_index()

    def _on_index(self, index: int = -1) -> None:
        if self.currentData() is not self._current or self.hint != self._said:
            self._current, self._said = self.currentData(), self.hint
            self.layer_changed.emit()
