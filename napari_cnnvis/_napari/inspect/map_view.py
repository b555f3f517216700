"""What is shown of a map: its threshold, its larger clusters, its own cells. Raw values are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.utils.colormaps import Colormap
from qtpy.QtCore import QObject, Signal
from superqt.utils import qdebounced

from napari_cnnvis._napari.inspect.cells import NativeCells
from napari_cnnvis._napari.layers.maps import colormap, keep_whole, whole_map
from napari_cnnvis._napari.layers.place import spacing_of
from napari_cnnvis.evaluate.clustering import cluster_mask

__all__ = ["MapView", "cut_colours"]

_CUT = "CNN Vis above threshold"
#: as many as the graphics card's table of colours has
_STEPS = np.linspace(0, 1, 1024)
#: clusters follow the threshold when it has rested for so long, in milliseconds
_REST = 120


def cut_colours(base: Colormap, limits: tuple[float, float], threshold: float) -> np.ndarray:
    """The colours of a signed map between its limits, transparent up to a threshold.

    Returns
    -------
    array, shape (1024, 4)
    """
    colours = np.array(base.map(_STEPS))
    values = np.abs(limits[0] + _STEPS * (limits[1] - limits[0]))
    step = (limits[1] - limits[0]) / (len(_STEPS) - 1)
    colours[values < threshold + step, 3] = 0  # colours between two steps are mixed
    return colours


class MapView(QObject):
    """Follows one overlay and changes how it is shown, never what it holds.

    While a part of the map is hidden, the whole is kept here and by the layer. `close` puts
    everything back.

    Parameters
    ----------
    layer : napari.layers.Image
        An overlay.
    """

    #: another map, or its cells instead of it
    values_changed = Signal()
    #: anything of what is shown
    changed = Signal()

    def __init__(self, layer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.layer = layer
        #: all values of the map, as its method gave them
        self.raw = whole_map(layer.data, layer)
        self.cells = NativeCells.of(layer)
        self.native = False
        self.minimum_mm3 = 0.0
        #: how many clusters are shown, and how many there are; None if all of the map is shown
        self.clusters: tuple[int, int] | None = None
        #: where the clusters are that are shown
        self.mask: np.ndarray | None = None
        self._shown = layer.data
        self._cells_shown: np.ndarray | None = None
        self._threshold = 0.0
        self._range = tuple(layer.contrast_limits_range)
        self._busy = False
        self._base = self._plain(layer.colormap)
        self._cut: Colormap | None = None
        self._smooth: tuple[str, str] | None = None
        self._show_soon = qdebounced(self.show, timeout=_REST, parent=self)
        events = layer.events
        self._sources = {
            events.data: self._on_data,
            events.metadata: self._on_metadata,
            events.contrast_limits: self._on_limits,
            events.colormap: self._on_colormap,
            events.opacity: self._on_opacity,
        }
        for source, answer in self._sources.items():
            source.connect(answer)
        self.show()

    def close(self) -> None:
        """Put the whole map and its colours back, and follow the layer no longer.

        The threshold of a map of one side is its lower contrast limit, and stays.
        """
        self._show_soon.cancel()
        if self.signed:
            self.set_threshold(0)
        self.set_native(False)
        self.set_minimum(0)
        for source, answer in self._sources.items():
            source.disconnect(answer)
        self._sources = {}

    # --- what there is ---------------------------------------------------------------

    @property
    def signed(self) -> bool:
        """Whether the map has two sides."""
        return self._range[0] < 0

    @property
    def values(self) -> np.ndarray:
        """The map that is looked at, all of it: by voxels, or by its own cells."""
        if not self.native:
            return self.raw
        if self._cells_shown is None:
            self._cells_shown = self.cells.shown()
        return self._cells_shown

    @property
    def upper(self) -> float:
        """The largest threshold."""
        limits = self.layer.contrast_limits
        return float(max(map(abs, limits)) if self.signed else limits[1])

    @property
    def threshold(self) -> float:
        """Values up to here, of either sign, are transparent."""
        if self.signed:
            return self._threshold
        return max(float(self.layer.contrast_limits[0]), 0.0)

    # --- what is shown ---------------------------------------------------------------

    def set_threshold(self, threshold: float) -> None:
        """Make values up to a threshold transparent; clusters follow when it rests."""
        threshold = float(np.clip(threshold, 0, 0.999 * self.upper))
        if threshold == self.threshold:
            return
        if self.signed:
            self._threshold = threshold
            self._colour()
            self._after_threshold()
        else:
            self.layer.contrast_limits = (threshold, self.layer.contrast_limits[1])

    def set_minimum(self, millimetres: float) -> None:
        """Hide clusters that are smaller than so many mm3; 0 shows all of the map."""
        self.minimum_mm3 = float(millimetres)
        self.show()

    def set_native(self, native: bool) -> None:
        """Show the map's own cells, or the map interpolated between them."""
        native = native and self.cells is not None
        if native == self.native:
            return
        self.native = native
        if native:
            self._smooth = self.layer.interpolation2d, self.layer.interpolation3d
            self.layer.interpolation2d = self.layer.interpolation3d = "nearest"
        elif self._smooth is not None:
            self.layer.interpolation2d, self.layer.interpolation3d = self._smooth
        self.show()
        self.values_changed.emit()

    def show(self) -> None:
        """Show what was asked for of the map as it is now."""
        self._show_soon.cancel()
        shown, self.clusters, self.mask = self.values, None, None
        if self.minimum_mm3 > 0:
            self.mask, left, found = cluster_mask(
                shown, self.threshold, spacing_of(self.layer), self.minimum_mm3, self.signed
            )
            self.clusters = left, found
            shown = np.where(self.mask, shown, shown.dtype.type(0))
        self._busy, self._shown = True, shown
        if self.layer.data is not shown:
            self.layer.data = shown
        keep_whole(self.layer, None if shown is self.raw else self.raw)
        self._busy = False
        self.changed.emit()

    def _colour(self) -> None:
        """Colours of a signed map with its threshold."""
        self._busy = True
        if self._threshold == 0:
            if self.layer.colormap is not self._base:
                self.layer.colormap = self._base
        else:
            colours = cut_colours(self._base, self.layer.contrast_limits, self._threshold)
            if self._cut is None:
                self._cut = Colormap(colours, name=_CUT)
            else:  # one entry in napari's list of colour maps, however often it changes
                self._cut.colors = colours
            self.layer.colormap = self._cut
        self._busy = False

    def _after_threshold(self) -> None:
        if self.minimum_mm3 > 0:
            self._show_soon()
        self.changed.emit()

    def _plain(self, colours: Colormap) -> Colormap:
        """`colours`, or the usual ones if they were cut by another view."""
        return colormap(signed=True) if colours.name.startswith(_CUT) else colours

    # --- what others do to the layer ---------------------------------------------------

    def _on_data(self, event: Any = None) -> None:
        if self._busy or self.layer.data is self._shown:
            return
        self.raw = self.layer.data  # another map
        self._cells_shown = None
        self.show()
        self.values_changed.emit()

    def _on_metadata(self, event: Any = None) -> None:
        if self._busy:
            return
        self.cells, self._cells_shown = NativeCells.of(self.layer), None
        if not self.native:
            self.changed.emit()
        elif self.cells is None:
            self.set_native(False)
        else:
            self.show()
            self.values_changed.emit()

    def _on_limits(self, event: Any = None) -> None:
        limits = tuple(self.layer.contrast_limits_range)
        if limits != self._range:  # those of another map
            self._range, self._threshold = limits, 0.0
        if self.signed or self._cut is not None:
            self._colour()
        self._after_threshold()

    def _on_colormap(self, event: Any = None) -> None:
        if not self._busy and self.layer.colormap is not self._cut:
            self._base = self.layer.colormap
            if self.signed:
                self._colour()

    def _on_opacity(self, event: Any = None) -> None:
        self.changed.emit()
