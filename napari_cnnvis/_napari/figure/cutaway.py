"""Sliders that cut parts of the head away, by clipping planes on every 3D layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image, Labels
from nibabel.affines import apply_affine
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QWidget
from superqt import QLabeledRangeSlider
from superqt.utils import signals_blocked

from napari_cnnvis._napari.figure.camera import ScanAxes, linear_of, shown_axes
from napari_cnnvis._napari.layers.one_volume import to_world

__all__ = ["CutAway"]

_NAMES = ("Left – right (mm)", "Back – front (mm)", "Bottom – top (mm)")
_TIP = "Everything outside this range is cut away; both ends can be moved, or typed."


class CutAway(QWidget):
    """What stays visible of the scan along its three axes, in mm.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._scan: Any = None
        self._axes: ScanAxes | None = None
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setColumnStretch(1, 1)
        self.sliders = []
        for row, name in enumerate(_NAMES):
            slider = QLabeledRangeSlider(Qt.Orientation.Horizontal)
            slider.setHandleLabelPosition(slider.LabelPosition.NoLabel)
            slider.setEdgeLabelMode(slider.EdgeLabelMode.LabelIsValue)
            slider.setMinimumWidth(90)
            slider.setToolTip(_TIP)
            slider.valueChanged.connect(self.apply)
            slider.editingFinished.connect(self._swap_ends)
            grid.addWidget(QLabel(name), row, 0)
            grid.addWidget(slider, row, 1)
            self.sliders.append(slider)
        viewer.layers.events.inserted.connect(self.apply)
        self.show_scan(None)

    def disconnect_viewer(self) -> None:
        """Stop following the layer list."""
        self._viewer.layers.events.inserted.disconnect(self.apply)

    def show_scan(self, layer: Any) -> None:
        """Cut along the axes of this layer; nothing is cut away at first."""
        self._scan = layer
        self._axes = None if layer is None else ScanAxes.of(layer)
        self.setEnabled(layer is not None)
        for row, slider in enumerate(self.sliders):
            ends = (-100, 100) if self._axes is None else self._axes.span(row)
            with signals_blocked(slider):
                slider.setRange(int(np.floor(ends[0])), int(np.ceil(ends[1])))
                slider.setValue((slider.minimum(), slider.maximum()))

    def _swap_ends(self) -> None:
        """Superqt takes ends that are typed in either order."""
        for slider in self.sliders:
            slider.setValue(tuple(sorted(slider.value())))

    def reset(self) -> None:
        """Cut nothing away."""
        for slider in self.sliders:
            with signals_blocked(slider):
                slider.setValue((slider.minimum(), slider.maximum()))
        self.apply()

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """What stays, along right, anterior and superior, in mm."""
        return tuple(tuple(int(v) for v in slider.value()) for slider in self.sliders)

    def show_ranges(self, ranges: Any) -> None:
        """Set the sliders and cut."""
        for slider, ends in zip(self.sliders, ranges, strict=True):
            with signals_blocked(slider):
                slider.setValue(tuple(int(v) for v in ends))
        self.apply()

    def apply(self, event: Any = None) -> None:
        """Put the planes on every 3D image and label layer, wherever it lies."""
        if self._scan is None or self._scan not in self._viewer.layers:
            return
        planes = self._planes()
        for layer in self._viewer.layers:
            solid = isinstance(layer, Image | Labels) and layer.ndim == 3
            if solid and (planes or len(layer.experimental_clipping_planes)):
                layer.experimental_clipping_planes = planes

    def _planes(self) -> list[dict[str, Any]]:
        """Place and inward normal of each plane that cuts something.

        In displayed world coordinates: that is what napari takes, although it documents
        data coordinates (napari#3874).
        """
        planes = []
        displayed = shown_axes(self._viewer)
        order = displayed if len(displayed) == 3 else [0, 1, 2]
        to_normals = np.linalg.inv(linear_of(self._scan)).T
        middle = (np.array(self._axes.shape) - 1) / 2
        for row, slider in enumerate(self.sliders):
            low, high = slider.value()
            for end, whole, inward in (
                (low, slider.minimum(), 1),
                (high, slider.maximum(), -1),
            ):
                if end == whole:
                    continue
                place = middle.copy()
                place[self._axes.axis[row]] = self._axes.index(row, end)
                normal = to_normals @ self._axes.in_data(inward * np.eye(3)[row])
                normal /= np.linalg.norm(normal)
                planes.append(
                    {
                        "position": tuple(apply_affine(to_world(self._scan), place)[order]),
                        "normal": tuple(normal[order]),
                        "enabled": True,
                    }
                )
        return planes
