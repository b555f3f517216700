"""The table of scans with its search field, its filter, and the way to the next and the last one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QModelIndex, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPushButton,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_cnnvis._napari.scans.scan_table import (
    LABEL,
    MARK,
    NAME,
    PREDICTION,
    STATUS,
    ScanFilter,
    ScanTable,
)
from napari_cnnvis.cohort.entries import ScanEntry

__all__ = ["NEXT_KEY", "PREVIOUS_KEY", "ScansView"]

PREVIOUS_KEY, NEXT_KEY = "PageUp", "PageDown"
_WIDTHS = {LABEL: 58, PREDICTION: 100, MARK: 22, STATUS: 80}


class ScansView(QWidget):
    """Lists scans; emits ``chosen(number)`` of the list that was given.

    Which scan is shown in the viewer is told by `show_chosen`; it is the selected row,
    unless the filter hides it.
    """

    chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.table = ScanTable(self)
        self.filter = ScanFilter(self)
        self.filter.setSourceModel(self.table)
        self.shown: int | None = None
        self._shown_row = 0
        self._quiet = False
        self.search = QLineEdit()
        self.search.setPlaceholderText("search")
        self.search.setToolTip("Text in the name, label, subject or prediction.")
        self.search.setClearButtonEnabled(True)
        self.only_wrong = QCheckBox("Only wrong predictions")
        self.only_wrong.setToolTip("List only scans whose prediction differs from their label.")
        self.view = QTableView()
        # before the view follows the model, so that a filter does not choose another scan
        self.filter.rowsAboutToBeRemoved.connect(self._hush)
        self.filter.modelAboutToBeReset.connect(self._hush)
        self._style()
        self.previous = QPushButton("◀ Previous")
        self.previous.setToolTip(f"The scan above in the table ({PREVIOUS_KEY}).")
        self.next = QPushButton("Next ▶")
        self.next.setToolTip(f"The scan below in the table ({NEXT_KEY}).")
        self.position = QLabel()
        self.position.setAlignment(Qt.AlignmentFlag.AlignCenter)
        top = QHBoxLayout()
        top.addWidget(self.search, 1)
        top.addWidget(self.only_wrong)
        steps = QHBoxLayout()
        steps.addWidget(self.previous)
        steps.addWidget(self.position, 1)
        steps.addWidget(self.next)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(top)
        column.addWidget(self.view, 1)
        column.addLayout(steps)
        self.search.textChanged.connect(self.filter.search)
        self.only_wrong.toggled.connect(self.filter.only_wrong)
        self.previous.clicked.connect(lambda: self.step(-1))
        self.next.clicked.connect(lambda: self.step(1))
        self.view.selectionModel().currentRowChanged.connect(self._on_current)
        self.view.clicked.connect(self._on_clicked)
        for source in (self.filter.rowsRemoved, self.filter.modelReset, self.filter.rowsInserted):
            source.connect(self._on_rows)
        self.filter.layoutChanged.connect(self._on_rows)
        self._on_rows()

    def _style(self) -> None:
        view = self.view
        view.setModel(self.filter)
        view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        view.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        view.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        view.setWordWrap(False)
        view.setShowGrid(False)
        view.setTabKeyNavigation(False)
        rows = view.verticalHeader()
        rows.hide()
        rows.setDefaultSectionSize(view.fontMetrics().height() + 8)
        header = view.horizontalHeader()
        header.setMinimumSectionSize(22)
        header.setSortIndicatorClearable(True)
        header.setHighlightSections(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        view.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        view.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        for column, width in _WIDTHS.items():
            view.setColumnWidth(column, width)
        view.sortByColumn(-1, Qt.SortOrder.AscendingOrder)
        view.setSortingEnabled(True)

    # --- what is listed --------------------------------------------------------------

    def show_entries(self, entries: Sequence[ScanEntry]) -> None:
        """List other scans; none is shown yet."""
        self.shown, self._shown_row = None, 0
        self.search.clear()
        self.only_wrong.setChecked(False)
        self.table.show_entries(entries)

    def show_chosen(self, number: int) -> None:
        """Mark the scan that the viewer shows, or is about to show."""
        self.shown = number
        self._refresh()
        row = self._row(number)
        if row is not None:
            self.view.scrollTo(self.filter.index(row, NAME))

    # --- the next one ------------------------------------------------------------------

    def neighbour(self, by: int) -> int | None:
        """The number of the scan so many rows below the shown one, or None at the end."""
        count = self.filter.rowCount()
        here = None if self.shown is None else self._row(self.shown)
        if here is not None:
            row = here + by
        elif by < 0:  # the shown one is filtered out: from where it was
            row = min(self._shown_row, count) - 1
        else:
            row = self._shown_row if self._shown_row < count else 0
        if not 0 <= row < count:
            return None
        return self.filter.mapToSource(self.filter.index(row, NAME)).row()

    def step(self, by: int) -> None:
        """Choose the scan so many rows below; nothing happens at the end."""
        number = self.neighbour(by)
        if number is not None:
            self.chosen.emit(number)

    def _row(self, number: int) -> int | None:
        """The row of the table in which a scan is, if it is listed."""
        index = self.filter.mapFromSource(self.table.index(number, NAME))
        return index.row() if index.isValid() else None

    # --- what happens in the table --------------------------------------------------

    def _hush(self, *_: Any) -> None:
        self._quiet = True

    def _on_rows(self, *_: Any) -> None:
        self._quiet = False
        self._refresh()

    def _on_current(self, current: QModelIndex, previous: QModelIndex) -> None:
        if not self._quiet and current.isValid():
            self.chosen.emit(self.filter.mapToSource(current).row())

    def _on_clicked(self, index: QModelIndex) -> None:
        """A click on the row that is current already, such as after its layer was deleted."""
        self.chosen.emit(self.filter.mapToSource(index).row())

    def _refresh(self) -> None:
        count = self.filter.rowCount()
        row = None if self.shown is None or not self.table.rows else self._row(self.shown)
        if row is not None:
            self._shown_row = row
            self._quiet = True
            self.view.selectRow(row)
            self._quiet = False
        place = "–" if row is None else str(row + 1)
        self.position.setText(f"{place} of {count}" if self.table.rows else "")
        self.previous.setEnabled(self.neighbour(-1) is not None)
        self.next.setEnabled(self.neighbour(1) is not None)
