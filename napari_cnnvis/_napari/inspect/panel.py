"""The panel "Inspect": thresholds, peaks, clusters, voxels and regions of a map."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFormLayout,
    QGroupBox,
    QLabel,
    QVBoxLayout,
    QWidget,
)
from superqt import QLabeledDoubleSlider
from superqt.utils import signals_blocked

from napari_cnnvis._napari.inspect.cells import why_no_cells
from napari_cnnvis._napari.inspect.map_view import MapView
from napari_cnnvis._napari.inspect.peak_buttons import PeakBrowser
from napari_cnnvis._napari.inspect.region_table import RegionsBox
from napari_cnnvis._napari.inspect.voxel import VoxelBox
from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis._napari.layers.place import affine_of, go_to
from napari_cnnvis._napari.widgets.guide_window import add_help
from napari_cnnvis._napari.widgets.layer_picker import LayerPicker
from napari_cnnvis._napari.widgets.panel_base import DockedPanel
from napari_cnnvis._napari.widgets.voxel_clicks import VoxelClicks, voxels_under

__all__ = ["InspectPanel"]

_NO_MAP = "Make a map first: Plugins > CNN Vis > Explain CNN."


class InspectPanel(DockedPanel):
    """Looks closer at the maps that are in the viewer.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer, width=395)
        self._viewer = napari_viewer
        self._views: dict[Any, MapView] = {}
        #: what is shown of the chosen map; None without a map
        self.view: MapView | None = None
        self._build()
        add_help(self, "inspect")
        self._connect()
        self._on_map()

    def _build(self) -> None:
        self.map = LayerPicker(self._viewer, fits=map_of)
        self.map.setToolTip("The map to inspect.")
        self.map.setMinimumWidth(90)
        self.threshold = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.threshold.setToolTip(
            "Values up to here are transparent; in signed maps on both sides."
        )
        self.opacity = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(0, 1)
        self.opacity.setDecimals(2)
        self.opacity.setToolTip("Opacity of the whole map.")
        self.minimum = QDoubleSpinBox()
        self.minimum.setRange(0, 1e6)
        self.minimum.setDecimals(0)
        self.minimum.setSingleStep(100)
        self.minimum.setSuffix(" mm³")
        self.minimum.setSpecialValueText("off")
        self.minimum.setKeyboardTracking(False)
        self.minimum.setToolTip(
            "Hide clusters above the threshold that are smaller than this. The map itself is kept."
        )
        self.cluster_count = QLabel()
        self.native_cells = QCheckBox()
        self.said = QLabel(_NO_MAP)
        self.said.setWordWrap(True)
        shown = QGroupBox("Map")
        form = QFormLayout(shown)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow(self.map)
        form.addRow(self.said)
        form.addRow("Threshold", self.threshold)
        form.addRow("Opacity", self.opacity)
        form.addRow("Smallest cluster", self.minimum)
        form.addRow("", self.cluster_count)
        form.addRow(self.native_cells)

        self.peaks = PeakBrowser()
        peaks = QGroupBox("Peaks")
        QVBoxLayout(peaks).addWidget(self.peaks)
        self.voxel = VoxelBox(self._viewer)
        self.regions = RegionsBox(self._viewer)

        content = QWidget()
        column = QVBoxLayout(content)
        for box in (shown, peaks, self.voxel, self.regions):
            column.addWidget(box)
        column.addStretch()
        self.lay_out(content)

    def _connect(self) -> None:
        self._clicks = VoxelClicks(self._viewer, self._on_click)
        self._sources = {
            self._viewer.layers.events.inserted: self._on_inserted,
            self._viewer.layers.events.removed: self._on_removed,
            self._viewer.dims.events.ndisplay: self.voxel.redraw,
            self._viewer.dims.events.order: self.voxel.redraw,
        }
        self._follow(True)
        self.map.layer_changed.connect(self._on_map)
        self.threshold.valueChanged.connect(self._on_threshold)
        self.opacity.valueChanged.connect(self._on_opacity)
        self.minimum.valueChanged.connect(self._on_minimum)
        self.native_cells.toggled.connect(self._on_native)
        self.peaks.chosen.connect(self.jump)
        self.regions.chosen.connect(self._on_region)

    def _follow(self, wanted: bool) -> None:
        for source, answer in self._sources.items():
            source.disconnect(answer)
            if wanted:
                source.connect(answer)

    def docked(self) -> None:
        """Listen to the viewer while the panel is in a window."""
        self._clicks.start()
        self._follow(True)
        self._on_map()

    def closed(self) -> None:
        """Leave the viewer and its maps as they would be without the panel."""
        self._clicks.stop()
        self._follow(False)
        self.regions.jobs.cancel()
        self.voxel.clear()
        for view in self._views.values():
            view.close()
        self._views.clear()
        self._look_at(None)

    # --- the map --------------------------------------------------------------------

    def _on_map(self) -> None:
        layer = self.map.layer
        if layer is not None and layer not in self._views:
            view = MapView(layer, self)
            view.changed.connect(lambda: self._on_changed(view))
            view.values_changed.connect(lambda: self._on_values(view))
            self._views[layer] = view
        self._look_at(self._views.get(layer))

    def _look_at(self, view: MapView | None) -> None:
        if view is self.view is not None:
            return
        self.view = view
        self.peaks.look_at(view)
        self.voxel.look_at(view)
        self.regions.look_at(view)
        self._refresh()

    def _on_inserted(self, event: Any) -> None:
        if map_of(event.value) is not None:
            self.voxel.refresh()

    def _on_removed(self, event: Any) -> None:
        view = self._views.pop(event.value, None)
        if view is not None:
            view.close()  # it may be put back, in another viewer, too
            view.deleteLater()
            self.voxel.refresh()

    def _on_changed(self, view: MapView) -> None:
        if view is self.view:
            self.peaks.refresh()
            self._refresh()

    def _on_values(self, view: MapView) -> None:
        if view is self.view:
            self.peaks.forget()
            self.regions.forget()
            self.voxel.refresh()

    def _on_threshold(self, value: float) -> None:
        if self.view is not None:
            self.view.set_threshold(value)

    def _on_opacity(self, value: float) -> None:
        if self.view is not None:
            self.view.layer.opacity = value

    def _on_minimum(self, value: float) -> None:
        if self.view is not None:
            self.view.set_minimum(value)

    def _on_native(self, wanted: bool) -> None:
        if self.view is not None:
            self.view.set_native(wanted)

    def _refresh(self) -> None:
        """Bring the widgets in line with what is shown of the map."""
        view = self.view
        self.said.setVisible(view is None)
        for widget in (self.threshold, self.opacity, self.minimum):
            widget.setEnabled(view is not None)
        with ExitStack() as quiet:
            for widget in (self.threshold, self.opacity, self.minimum, self.native_cells):
                quiet.enter_context(signals_blocked(widget))
            self._show_values(view)

    def _show_values(self, view: MapView | None) -> None:
        self.cluster_count.setVisible(view is not None and view.clusters is not None)
        self.cluster_count.setText("")
        cells = None if view is None else view.cells
        self.native_cells.setEnabled(cells is not None)
        self.native_cells.setChecked(view is not None and view.native)
        self.native_cells.setText("Native cells")
        self.native_cells.setToolTip("" if view is None else why_no_cells(view.layer))
        if cells is not None:
            self.native_cells.setText(f"Native cells ({cells.size_text})")
            self.native_cells.setToolTip(
                "Show the target layer's own cells instead of interpolating."
            )
        if view is not None:
            upper = view.upper
            self.threshold.setDecimals(_decimals(upper))
            self.threshold.setRange(0, upper)
            self.threshold.setSingleStep(upper / 200)
            self.threshold.setValue(view.threshold)
            self.opacity.setValue(view.layer.opacity)
            self.minimum.setValue(view.minimum_mm3)
            if view.clusters is not None:
                self.cluster_count.setText("{} of {} clusters shown".format(*view.clusters))

    # --- places ---------------------------------------------------------------------

    def jump(self, voxel: Any) -> None:
        """Go to a voxel of the map, and look at it."""
        if self.view is not None:
            go_to(self._viewer, self.view.layer, voxel)
            self.voxel.show_voxel(tuple(int(i) for i in voxel))

    def _on_region(self, mm: np.ndarray) -> None:
        if self.view is not None:
            inverse = np.linalg.inv(affine_of(self.view.layer))
            self.jump(np.round(apply_affine(inverse, mm)).astype(int))

    def _on_click(self, event: Any) -> None:
        """Look at the voxel that was clicked on; in 3D, at the highest along the line of sight.

        That is the one which a maximum projection shows. Where none is above the threshold,
        the lowest of a signed map is meant.
        """
        if self.view is None:
            return
        voxels = voxels_under(self.view.layer, event)
        if len(event.dims_displayed) == 3 and len(voxels):
            seen = np.asarray(self.view.layer.data)[tuple(voxels.T)]
            best = int(seen.argmax())
            if self.view.signed and seen[best] <= self.view.threshold:
                best = int(seen.argmin())
            voxels = voxels[[best]] if abs(seen[best]) > self.view.threshold else []
        if len(voxels):
            self.voxel.show_voxel(tuple(int(i) for i in voxels[0]))


def _decimals(upper: float) -> int:
    """So many digits that a hundredth of the largest value can be told."""
    return int(np.clip(3 - np.ceil(np.log10(max(upper, 1e-12))), 0, 9))
