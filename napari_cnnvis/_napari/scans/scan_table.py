"""The table of the panel "Scans": what is known of each scan, sorted and filtered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSortFilterProxyModel, Qt
from qtpy.QtGui import QColor

from napari_cnnvis.cohort.entries import ScanEntry
from napari_cnnvis.cohort.predictions import Prediction, described, verdict

__all__ = ["COLUMNS", "ScanFilter", "ScanRow", "ScanTable"]

COLUMNS = ("Scan", "Label", "Prediction", "", "Status")
NAME, LABEL, PREDICTION, MARK, STATUS = range(5)
_SORT = Qt.ItemDataRole.UserRole
_WRONG, _PROBLEM = QColor("#ff8c69"), QColor("#e0b040")
_TIPS = {
    NAME: "The scan's name; the path is in the tooltip of each row.",
    LABEL: "The label that the study gives.",
    PREDICTION: "The network's prediction.",
    MARK: "✓ where both agree, ✗ where they do not, empty where this is not known.",
    STATUS: "What is on disk for the scan: its prediction, and the map for the method as it is set.",
}
#: longer problems are told in the tip and, for the chosen scan, below the table
_SHORT = 24
_MARKS = {True: "✓", False: "✗", None: ""}


@dataclass
class ScanRow:
    """A scan and what is known of it, as it is shown."""

    entry: ScanEntry
    problem: str = ""
    prediction: Prediction | None = None
    said: str = ""
    right: bool | None = None
    mapped: bool = False

    @property
    def status(self) -> str:
        """In a few words."""
        if self.problem:
            return self.problem if len(self.problem) <= _SHORT else "⚠ failed"
        if self.mapped:
            return "map"
        return "predicted" if self.prediction is not None else ""


class ScanTable(QAbstractTableModel):
    """Rows of scans; what is known of them comes in bit by bit."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.rows: list[ScanRow] = []

    def show_entries(self, entries: Sequence[ScanEntry]) -> None:
        """List other scans, of which nothing is known yet."""
        self.beginResetModel()
        self.rows = [ScanRow(entry, entry.problem) for entry in entries]
        self.endResetModel()

    def forget_results(self) -> None:
        """Nothing is known any more, such as with another network."""
        for row in self.rows:
            row.problem = row.entry.problem
            row.prediction, row.said, row.right, row.mapped = None, "", None, False
        self._changed(0, len(self.rows) - 1)

    def show_outcome(self, index: int, outcome: Any, model: Any) -> None:
        """Show what a run tells of a scan."""
        row = self.rows[index]
        row.problem = outcome.problem
        row.mapped = outcome.mapped
        row.prediction = outcome.prediction
        row.said = "" if outcome.prediction is None else described(outcome.prediction, model)
        row.right = verdict(outcome.prediction, row.entry.label, model)
        self._changed(index, index)

    def _changed(self, first: int, last: int) -> None:
        if last >= first:
            self.dataChanged.emit(self.index(first, 0), self.index(last, STATUS))

    def summary(self) -> str:
        """How many there are, how many were predicted, and how many of them rightly."""
        predicted = sum(row.prediction is not None for row in self.rows)
        parts = [f"{len(self.rows)} scans"]
        if predicted:
            parts.append(f"{predicted} predicted")
        judged = [row.right for row in self.rows if row.right is not None]
        if judged:
            share = sum(judged) / len(judged)
            parts.append(f"{sum(judged)} of {len(judged)} right ({share:.0%})")
        return " · ".join(parts)

    # --- what Qt asks for ------------------------------------------------------------

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(COLUMNS)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        if orientation == Qt.Orientation.Horizontal:
            if role == Qt.ItemDataRole.DisplayRole:
                return COLUMNS[section]
            if role == Qt.ItemDataRole.ToolTipRole:
                return _TIPS[section]
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row, column = self.rows[index.row()], index.column()
        if role in (Qt.ItemDataRole.DisplayRole, _SORT):
            return self._text(row, column) if role != _SORT else self._sort_key(row, column)
        if role == Qt.ItemDataRole.ToolTipRole:
            return "\n".join(filter(None, [str(row.entry.path), row.problem]))
        if role == Qt.ItemDataRole.ForegroundRole:
            if row.problem and column == STATUS:
                return _PROBLEM
            if row.right is False and column in (PREDICTION, MARK):
                return _WRONG
        if role == Qt.ItemDataRole.TextAlignmentRole and column == MARK:
            return Qt.AlignmentFlag.AlignCenter
        return None

    @staticmethod
    def _text(row: ScanRow, column: int) -> str:
        return (row.entry.name, row.entry.label, row.said, _MARKS[row.right], row.status)[column]

    def _sort_key(self, row: ScanRow, column: int) -> Any:
        """Wrong ones first; predictions by class and then by how certain they are."""
        if column == MARK:
            return {False: 0, True: 1, None: 2}[row.right]
        if column == PREDICTION and row.prediction is not None:
            values = row.prediction.values
            if len(values) == 1:
                return f"{values[0] + 1e9:020.6f}"
            return f"{row.said.split(' ')[0]} {values.max():.6f}"
        return self._text(row, column).casefold()


class ScanFilter(QSortFilterProxyModel):
    """The rows that fit a text and, if asked for, are wrong."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._text = ""
        self._only_wrong = False
        self.setSortRole(_SORT)

    def search(self, text: str) -> None:
        """Keep rows whose name, label, subject or prediction holds every word of a text."""
        self._text = text.strip().casefold()
        self.invalidate()

    def only_wrong(self, wanted: bool) -> None:
        """Keep rows whose prediction is not the label."""
        self._only_wrong = wanted
        self.invalidate()

    def filterAcceptsRow(self, number: int, parent: QModelIndex) -> bool:
        row = self.sourceModel().rows[number]
        if self._only_wrong and row.right is not False:
            return False
        if not self._text:
            return True
        entry = row.entry
        there = f"{entry.name} {entry.label} {entry.subject} {row.said}".casefold()
        return all(word in there for word in self._text.split())
