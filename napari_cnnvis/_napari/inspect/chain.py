"""The regions that hold a voxel in a UCM map: how much the score drops without each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPen
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis._napari.layers.place import affine_of
from napari_cnnvis._napari.layers.region_facts import find_drops
from napari_cnnvis._napari.widgets.plain_table import PlainTable
from napari_cnnvis._napari.widgets.words import volume_text

__all__ = ["Chain", "ChainBox", "DropPlot", "chain_at"]


@dataclass(frozen=True, eq=False)
class Chain:
    """The scored regions that hold a voxel, from fine to coarse.

    Attributes
    ----------
    class_name : str
    nodes : array of int, shape (n,)
        Of the map's hierarchy.
    volumes : array, shape (n,)
        In mm3; rising.
    drops : array, shape (n,)
        How much the score falls without the region.
    n_all : int
        How many regions hold the voxel, those that were not scored included.
    """

    class_name: str
    nodes: np.ndarray
    volumes: np.ndarray
    drops: np.ndarray
    n_all: int


def chain_at(layer: Any, voxel: Sequence[int]) -> Chain | None:
    """The chain of regions at a voxel of an overlay; None if it was not made with regions."""
    map_ = map_of(layer)
    hierarchy = None if map_ is None else map_.hierarchy
    if hierarchy is None or hierarchy.leaves.shape != layer.data.shape:
        return None
    drops = find_drops([layer], hierarchy)
    nodes = hierarchy.chain(voxel)
    scored = nodes[np.isfinite(drops.values[nodes])]
    voxel_mm3 = abs(float(np.linalg.det(affine_of(layer)[:3, :3])))
    volumes = hierarchy.sizes[scored] * voxel_mm3
    return Chain(drops.class_name, scored, volumes, drops.values[scored], len(nodes))


class ChainBox(QWidget):
    """A plot and a table of a chain."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.plot = DropPlot()
        self.table = PlainTable(("Region", "Drop"), rows=5)
        self.table.setToolTip("Regions that contain the voxel and were scored, fine to coarse.")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.plot)
        column.addWidget(self.table)

    def show_chain(self, chain: Chain | None) -> None:
        """Show a chain; without one, hide."""
        self.setVisible(chain is not None)
        if chain is None:
            return
        self.plot.show_drops(chain.volumes, chain.drops)
        self.table.show_rows(
            [
                (volume_text(volume), f"{drop:+.3g}")
                for volume, drop in zip(chain.volumes, chain.drops, strict=True)
            ]
        )


class DropPlot(QWidget):
    """Drop of the score against the region's size, which is on a logarithmic axis."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.volumes = np.empty(0)
        self.drops = np.empty(0)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip("How much the score drops without each region, against the region's size.")

    def show_drops(self, volumes: np.ndarray, drops: np.ndarray) -> None:
        """Draw drops against volumes in mm3."""
        self.volumes, self.drops = np.asarray(volumes, float), np.asarray(drops, float)
        self.update()

    def sizeHint(self) -> QSize:
        """As wide as there is room for, and nine lines high."""
        return QSize(300, 9 * self.fontMetrics().lineSpacing())

    def paintEvent(self, event: Any) -> None:
        """Draw axes, their ends and the drops."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self.palette().windowText().color()
        faint = QColor(ink)
        faint.setAlpha(70)
        painter.setPen(ink)
        if not len(self.drops):
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, "No region was scored here")
            return
        decades, low, high = _ranges(self.volumes, self.drops)
        metrics = self.fontMetrics()
        line = metrics.lineSpacing()
        labels = [(value, f"{value:.2g}") for value in sorted({low, 0.0, high})]
        left = 8 + max(metrics.horizontalAdvance(text) for _, text in labels)
        area = QRectF(left, line, self.width() - left - 14, self.height() - 3.2 * line)

        def place(volume: float, drop: float) -> QPointF:
            along = (np.log10(volume) - decades[0]) / (decades[-1] - decades[0])
            up = (drop - low) / (high - low)
            return QPointF(area.left() + along * area.width(), area.bottom() - up * area.height())

        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        for value, text in labels:
            at = place(10.0 ** decades[0], value)
            painter.setPen(QPen(faint, 1))
            painter.drawLine(at, QPointF(area.right(), at.y()))
            painter.setPen(ink)
            painter.drawText(QRectF(0, at.y() - line / 2, left - 4, line), right, text)
        middle = Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop
        for decade in decades:
            at = place(10.0**decade, low)
            painter.setPen(QPen(faint, 1))
            painter.drawLine(at, QPointF(at.x(), area.top()))
            painter.setPen(ink)
            text = _volume(decade)
            half = metrics.horizontalAdvance(text) / 2
            x = min(max(at.x() - half, 0), self.width() - 2 * half - 2)
            painter.drawText(QRectF(x, area.bottom() + 2, 2 * half + 2, line), middle, text)
        painter.drawText(
            QRectF(0, self.height() - line * 1.1, self.width(), line), middle, "size of the region"
        )
        painter.drawText(QRectF(0, -2, self.width(), line), Qt.AlignmentFlag.AlignLeft, "drop")
        points = [place(v, d) for v, d in zip(self.volumes, self.drops, strict=True)]
        painter.setPen(QPen(QColor("#e8762c"), 1.5))
        painter.drawPolyline(points)
        painter.setBrush(QColor("#e8762c"))
        for point in points:
            painter.drawEllipse(point, 3.5, 3.5)


def _ranges(volumes: np.ndarray, drops: np.ndarray) -> tuple[list[int], float, float]:
    """Decades of the volumes, and a range of drops that holds 0."""
    first, last = np.floor(np.log10(volumes.min())), np.ceil(np.log10(volumes.max()))
    last = max(last, first + 1)
    low, high = min(float(drops.min()), 0.0), max(float(drops.max()), 0.0)
    return list(range(int(first), int(last) + 1)), low, high if high > low else low + 1.0


def _volume(decade: int) -> str:
    """ "100 mm³", "10 cm³"."""
    return f"{10.0**decade:g} mm³" if decade < 3 else f"{10.0 ** (decade - 3):g} cm³"
