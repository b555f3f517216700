"""The regions that hold a voxel, from fine to coarse, as a table."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_cnnvis._napari.layers.region_facts import Drops, RegionFacts
from napari_cnnvis._napari.widgets.words import number_text, volume_text

__all__ = ["ChainTable"]

_COLUMNS = {
    "Regions": "Number of regions in the level where this region first appears.",
    "Volume": "Of the region.",
    "Mean": "Mean intensity of the scan in the region.",
    "Altitude": "How different its parts are: the height at which they merge; 0 for the finest.",
    "Drop": "How much the score drops when the region is replaced by the baseline, where it was "
    "scored: run UCM sensitivity with these supervoxels.",
}


class ChainTable(QTableWidget):
    """A row for each region, each holding the next finer one."""

    #: the node of the row that the user chose
    chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(0, len(_COLUMNS), parent)
        self.nodes = np.empty(0, dtype=np.int64)
        for column, (name, tip) in enumerate(_COLUMNS.items()):
            item = QTableWidgetItem(name)
            item.setToolTip(tip)
            self.setHorizontalHeaderItem(column, item)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setMinimumSectionSize(36)
        header.setSectionResizeMode(len(_COLUMNS) - 1, QHeaderView.ResizeMode.Stretch)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(int(1.6 * self.fontMetrics().lineSpacing()))
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setMinimumHeight(8 * self.fontMetrics().lineSpacing())
        self.itemSelectionChanged.connect(self._on_selection)
        self.cellClicked.connect(self._on_selection)  # on the row that is marked already, too

    def show_chain(self, nodes: np.ndarray, facts: RegionFacts, drops: Drops | None) -> None:
        """List regions, from leaf to top."""
        with signals_blocked(self):
            self.clearSelection()
            self.nodes = nodes
            self.setRowCount(len(nodes))
            for row, node in enumerate(nodes):
                drop = np.nan if drops is None else drops.values[node]
                texts = (
                    f"{facts.count[node]:,}",
                    volume_text(facts.volume[node]),
                    number_text(facts.mean[node]),
                    number_text(facts.hierarchy.altitudes[node]),
                    f"{drop:+.2g}" if np.isfinite(drop) else "–",
                )
                for column, text in enumerate(texts):
                    item = QTableWidgetItem(text)
                    item.setTextAlignment(
                        Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
                    )
                    self.setItem(row, column, item)
            shown = "" if drops is None else f" Shown for {drops.class_name}."
            self.horizontalHeaderItem(4).setToolTip(_COLUMNS["Drop"] + shown)

    def mark(self, node: int | None) -> None:
        """Select a region's row without telling anyone."""
        rows = [] if node is None else np.flatnonzero(self.nodes == node)
        with signals_blocked(self):
            if len(rows):
                self.selectRow(int(rows[0]))
                self.scrollToItem(self.item(int(rows[0]), 0))
            else:
                self.clearSelection()

    def _on_selection(self) -> None:
        rows = {index.row() for index in self.selectedIndexes()}
        if rows:
            self.chosen.emit(int(self.nodes[rows.pop()]))
