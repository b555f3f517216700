"""The layers that show a hierarchy: one cut as labels with a table, and the contours."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis._napari.layers.region_facts import Drops, RegionFacts, find_drops
from napari_cnnvis._napari.layers.regions import (
    contour_arguments,
    contour_limits,
    labels_arguments,
    labels_of_cut,
    regions_of,
)
from napari_cnnvis._napari.layers.scans import spatial_state
from napari_cnnvis._napari.widgets.voxel_clicks import voxels_under

__all__ = ["RegionView"]


class RegionView(QObject):
    """Keeps a Labels layer at the cut that was asked for, on the scan.

    A layer that the user deleted is added again with the next cut.
    """

    #: whether only the selected region is shown, here or in napari's layer controls
    only_selected_changed = Signal(bool)
    #: the layer of the contours was removed, here or in napari's layer list
    contours_removed = Signal()
    #: a sensitivity map made with this hierarchy was added, changed or removed
    drops_changed = Signal()

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.facts: RegionFacts | None = None
        self.drops: Drops | None = None
        #: spatial state of the scan
        self.place: dict[str, Any] = {}
        self.name = ""
        self._labels: Any = None
        self._contours: Any = None
        self._node_of_leaf = np.empty(0, dtype=np.int64)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        for layer in viewer.layers:
            self._follow(layer)

    # --- the cut -------------------------------------------------------------------

    @property
    def labels(self) -> Any:
        """The Labels layer, or None if it is not in the viewer (any more)."""
        return self._labels if self._labels in self._viewer.layers else None

    def show(self, facts: RegionFacts, scan: Any, count: int) -> None:
        """Show a hierarchy on a scan's layer, cut into `count` regions.

        The layer of another hierarchy is hidden and can still be used.
        """
        self.show_contours(None)
        if self.labels is not None:
            self.labels.visible = False
        self.facts = facts
        self.place = spatial_state(scan)
        self.name = scan.name
        layers = [*self._viewer.layers]
        pairs = [(layer, regions_of(layer)) for layer in layers]
        kept = [layer for layer, its in pairs if its and its.hierarchy is facts.hierarchy]
        self._labels = kept[-1] if kept else None
        if kept:
            self._labels.visible = True
            self._labels.events.show_selected_label.connect(self._on_only_selected)
        self.drops = find_drops(layers, facts.hierarchy)
        self.cut(count)

    def cut(self, count: int) -> None:
        """Show the finest segmentation of at most `count` regions."""
        hierarchy = self.facts.hierarchy
        self._node_of_leaf = hierarchy.cut_nodes(count)
        data = labels_of_cut(hierarchy, self._node_of_leaf)
        if self.labels is None:
            name = f"Supervoxels of {self.name}"
            self._labels = self._viewer.add_labels(
                data, **labels_arguments(hierarchy, self.place, name)
            )
            self._labels.events.show_selected_label.connect(self._on_only_selected)
        else:
            self._labels.data = data
        self._fill_table()
        self._thin_contours()

    def _fill_table(self) -> None:
        self._labels.features = self.facts.features(np.unique(self._node_of_leaf), self.drops)

    def region_in_cut(self, chain: np.ndarray) -> int | None:
        """Which of a voxel's regions the cut has."""
        return int(self._node_of_leaf[chain[0]]) if len(chain) else None

    def select(self, node: int | None) -> None:
        """Select a region's label."""
        if self.labels is not None and node is not None:
            self.labels.selected_label = node + 1

    def show_only_selected(self, only: bool) -> None:
        """Whether to hide all regions but the selected one."""
        if self.labels is not None and self.labels.show_selected_label != only:
            self.labels.show_selected_label = only

    def _on_only_selected(self) -> None:
        if self.labels is not None:
            self.only_selected_changed.emit(self.labels.show_selected_label)

    # --- contours --------------------------------------------------------------------

    def show_contours(self, contours: np.ndarray | None) -> None:
        """Add the layer of a contour map, or remove it."""
        if self._contours is not None:
            self._viewer.layers.remove(self._contours)
        if contours is not None:
            arguments = contour_arguments(contours, self.place, f"Contours of {self.name}")
            self._contours = self._viewer.add_image(contours, **arguments)
            self._contours.contrast_limits_range = (0.0, self._contours.contrast_limits[1])
            self._thin_contours()

    def _thin_contours(self) -> None:
        """Show the contours of the cut only."""
        if self._contours is not None:
            altitude = self.facts.hierarchy.altitudes[self._node_of_leaf].max()
            self._contours.contrast_limits = contour_limits(self._contours.data, altitude)

    # --- what is clicked -------------------------------------------------------------

    def voxel_at(self, event: Any) -> tuple[int, int, int] | None:
        """The voxel that a click hits: in 3D, the first one on the line of sight that is shown."""
        layer = self.labels
        if layer is None or self.facts is None:
            return None
        voxels = voxels_under(layer, event)
        hit = self.facts.hierarchy.leaves[tuple(voxels.T)] > 0
        if len(event.dims_displayed) == 3 and layer.show_selected_label:
            hit &= np.asarray(layer.data)[tuple(voxels.T)] == layer.selected_label
        return tuple(int(i) for i in voxels[hit][0]) if hit.any() else None

    # --- drops -----------------------------------------------------------------------

    def _on_inserted(self, event: Any) -> None:
        self._follow(event.value)
        self._find_drops()

    def _on_removed(self, event: Any) -> None:
        if event.value is self._contours:
            self._contours = None
            self.contours_removed.emit()
        self._find_drops()

    def _follow(self, layer: Any) -> None:
        if map_of(layer) is not None:
            layer.events.metadata.connect(self._find_drops)
            layer.events.visible.connect(self._find_drops)

    def _find_drops(self) -> None:
        if self.facts is None:
            return
        before = self.drops
        self.drops = find_drops(self._viewer.layers, self.facts.hierarchy)
        if before is None and self.drops is None:
            return
        if self.labels is not None:
            self._fill_table()
        self.drops_changed.emit()
