"""The table of a map's values in the regions of an atlas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_cnnvis._napari.inspect.atlas import (
    ENDINGS,
    add_atlas,
    atlas_on,
    ground_of,
    name_regions,
)
from napari_cnnvis._napari.inspect.sample_regions import add_sample_regions, sample_regions
from napari_cnnvis._napari.layers.place import affine_of, labels_on_grid, place_text
from napari_cnnvis._napari.layers.regions import is_labels, regions_of
from napari_cnnvis._napari.layers.scans import snapshot
from napari_cnnvis._napari.widgets.file_dialogs import FileDialogs
from napari_cnnvis._napari.widgets.jobs import JobRunner
from napari_cnnvis._napari.widgets.layer_picker import LayerPicker
from napari_cnnvis._napari.widgets.words import volume_text
from napari_cnnvis.atlas.lookup_tables import read_lookup_table
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.evaluate.roi_tables import RoiRow, roi_table, write_roi_csv

__all__ = ["RegionsBox"]

_NO_LABELS = "Press Open atlas…, or choose any Labels layer."
_TABLES = "Look-up table (*.txt *.tsv *.csv *.label *.lut *.ctab);;All files (*)"
_NOT_YET = "Press Measure: mean, share of the positive values and peak in each region."


class RegionsBox(QGroupBox):
    """Measures a map in the regions of a Labels layer, and exports the table."""

    #: the place (mm) of the peak of the row that was clicked, an array
    chosen = Signal(object)

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__("Regions of interest", parent)
        self._viewer = viewer
        self._view: Any = None
        self._dialogs = FileDialogs(self, "atlas folder")
        self._note = ""
        self.rows: list[RoiRow] = []
        self.jobs = JobRunner(self)
        self.labels = LayerPicker(viewer, fits=is_labels)
        self.labels.setToolTip("The Labels layer whose regions are measured.")
        self.labels.setMinimumWidth(90)
        self.measure_button = QPushButton("Measure")
        self.measure_button.setToolTip("Measure the map in every region.")
        self.open_button = QPushButton("Open atlas…")
        self.open_button.setToolTip(
            "A label volume (NIfTI, or FreeSurfer's aseg.mgz, aparc+aseg.mgz), on the scan's grid. Names "
            "come from the look-up table beside it, or from FreeSurfer's."
        )
        self.names_button = QPushButton("Names…")
        self.names_button.setToolTip(
            "Take the regions' names and colours from a look-up table: FreeSurfer, BIDS (.tsv), "
            "ITK-SNAP or .csv."
        )
        self.sample_button = QPushButton("Add the sample's regions")
        self.sample_button.setToolTip("Where the simulated disease moved tissue.")
        self.export_button = QPushButton("Export CSV…")
        self.export_button.setToolTip("All columns of the table, with all digits.")
        self.said = QLabel()
        self.said.setWordWrap(True)
        self.model = _RowsModel()
        self.table = QTableView()
        self.table.setModel(self.model)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setWordWrap(False)
        self.table.setToolTip("Click a region to go to its peak.")
        self.table.verticalHeader().hide()
        height = int(1.6 * self.fontMetrics().lineSpacing())
        self.table.verticalHeader().setDefaultSectionSize(height)
        self.table.setFixedHeight(8 * height)

        row = QHBoxLayout()
        row.addWidget(self.labels, 1)
        row.addWidget(self.measure_button)
        row.addWidget(self.export_button)
        files = QHBoxLayout()
        files.addWidget(self.open_button)
        files.addWidget(self.names_button)
        files.addStretch()
        column = QVBoxLayout(self)
        column.addLayout(row)
        column.addLayout(files)
        column.addWidget(self.sample_button)
        column.addWidget(self.said)
        column.addWidget(self.table)

        self.labels.layer_changed.connect(self.forget)
        self.measure_button.clicked.connect(lambda: self.measure())
        self.open_button.clicked.connect(lambda: self._ask_atlas())
        self.names_button.clicked.connect(lambda: self._ask_names())
        self.sample_button.clicked.connect(lambda: self._add_sample())
        self.export_button.clicked.connect(lambda: self._ask_target())
        self.table.clicked.connect(lambda index: self.chosen.emit(self._place(index.row())))
        self.jobs.failed.connect(self._say_error)
        self.jobs.finished.connect(self._refresh)
        self.destroyed.connect(lambda: self.jobs.close())
        self.look_at(None)

    def look_at(self, view: Any) -> None:
        """Measure this `MapView`'s map; None for no map."""
        self._view = view
        self.forget()

    def forget(self) -> None:
        """Notice that the map or the regions are others: the table is of no use any more."""
        self._note = ""
        self._show_rows([])

    def measure(self, note: str = "") -> None:
        """Fill the table, in the background; `note` is said under it."""
        view, labels = self._view, self.labels.layer
        regions_shown = regions_of(labels)
        if view is None or regions_shown is None or self.jobs.busy:
            return
        layer, values = view.layer, view.values
        affine, names = affine_of(layer), regions_shown.names
        try:
            regions = labels_on_grid(labels, layer)
        except (ValueError, np.linalg.LinAlgError):
            self._say_error(f"'{labels.name}' cannot be brought onto the map's voxels.")
            return

        def job(progress: Any, cancel: Any) -> list[RoiRow]:
            return roi_table(np.asarray(values), regions, names, affine=affine)

        def done(rows: list[RoiRow]) -> None:
            same = self._view is view and self.labels.layer is labels
            if same and view.values is values:
                self._note = note
                self._show_rows(rows)

        self.jobs.start("Measuring the regions", job, done)
        self._refresh()

    def open_atlas(self, path: str, table: str | None = None) -> None:
        """Lay the regions of a file on the map's scan, in the background, and measure in them.

        `table` is a look-up table; by default the one beside the file is taken.
        """
        ground = ground_of(self._viewer, self._view)
        if self.jobs.busy:
            return
        if ground is None:
            self._say_error("First open the scan that the atlas belongs to.")
            return
        taken = snapshot(ground)

        def job(progress: Any, cancel: Any) -> Any:
            return atlas_on(path, table, *taken)

        def done(rois: Any) -> None:
            self._choose(add_atlas(self._viewer, rois, ground))
            self.said.setText(" ".join(rois.notes))
            self.measure(" ".join(rois.notes))

        self.jobs.start(f"Reading {Path(path).name}", job, done)
        self._refresh()

    def take_names(self, path: str) -> None:
        """Call the regions of the chosen layer as a look-up table does."""
        labels = self.labels.layer
        if labels is None:
            return
        try:
            count = name_regions(labels, read_lookup_table(path))
        except CnnVisError as exc:
            self._say_error(str(exc))
            return
        note = f"Names from {Path(path).name} for {count} region{'s' if count > 1 else ''}."
        self.said.setText(note)
        self.measure(note)

    def export(self, path: str) -> None:
        """Write the table to a CSV file, in place of one that is there."""
        try:
            written = write_roi_csv(self.rows, path, overwrite=True)
        except CnnVisError as exc:
            self._say_error(str(exc))
            return
        self.said.setText(f"Saved {written.name}.")

    def _ask_atlas(self) -> None:
        path = self._dialogs.open_file("Open an atlas", f"Label volume ({ENDINGS})")
        if path:
            self.open_atlas(path)

    def _ask_names(self) -> None:
        path = self._dialogs.open_file("Names of the regions", _TABLES)
        if path:
            self.take_names(path)

    def _ask_target(self) -> None:
        try:
            path = self._dialogs.save_file("Export the table", "Table (*.csv)")
        except CnnVisError as exc:
            self._say_error(str(exc))
            return
        if path:
            self.export(path)

    def _add_sample(self) -> None:
        path = None if self._view is None else sample_regions(self._view.layer)
        if path is None:
            return
        try:
            layer = add_sample_regions(self._viewer, path)
        except CnnVisError as exc:
            self._say_error(str(exc))
            return
        self._choose(layer)
        self.measure()

    def _choose(self, layer: Any) -> None:
        for index in range(self.labels.count()):
            if self.labels.itemData(index) == layer:  # which napari hands over in a proxy
                self.labels.setCurrentIndex(index)

    def _place(self, row: int) -> np.ndarray:
        return np.array(self.rows[row].peak_mm)

    def _say_error(self, text: str) -> None:
        self._show_rows([])
        self.said.setText(f"⚠ {text}")

    def _show_rows(self, rows: list[RoiRow]) -> None:
        self.rows = rows
        layer = None if self._view is None else self._view.layer
        signed = self._view is not None and self._view.signed
        self.model.show_rows(rows, layer, signed)
        self.table.resizeColumnsToContents()
        self.table.setColumnWidth(1, min(self.table.columnWidth(1), 150))
        self.said.setText(_NOT_YET if self.labels.layer is not None else _NO_LABELS)
        self._refresh()

    def _refresh(self) -> None:
        sample = None if self._view is None else sample_regions(self._view.layer)
        there = sample is not None and not any(
            layer.name == sample.name.removesuffix(".nii.gz") for layer in self._viewer.layers
        )
        self.sample_button.setVisible(there)
        ready = self._view is not None and self.labels.layer is not None
        self.measure_button.setEnabled(ready and not self.jobs.busy)
        self.open_button.setEnabled(not self.jobs.busy)
        self.names_button.setEnabled(self.labels.layer is not None and not self.jobs.busy)
        self.export_button.setEnabled(bool(self.rows))
        self.table.setVisible(bool(self.rows))
        if self.rows:
            count = f"{len(self.rows)} region{'s' if len(self.rows) > 1 else ''}."
            self.said.setText(f"{count} {self._note}".strip())


class _RowsModel(QAbstractTableModel):
    """The rows as texts; only those on the screen are made."""

    _COLUMNS = ("#", "Region", "Mean", "Share", "Peak", "Volume", "Peak at")
    _TIPS = (
        "Rank by the mean.",
        "Name or label.",
        "Mean of the map.",
        "Share of all positive values; in signed maps also of all negative ones.",
        "The value that is farthest from 0.",
        "",
        "Where the peak is.",
    )

    def __init__(self) -> None:
        super().__init__()
        self._rows: Sequence[RoiRow] = ()
        self._layer: Any = None
        self._signed = False

    def show_rows(self, rows: Sequence[RoiRow], layer: Any, signed: bool) -> None:
        self.beginResetModel()
        self._rows, self._layer, self._signed = rows, layer, signed
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return len(self._rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        return len(self._COLUMNS)

    def headerData(self, section: int, orientation: Any, role: int = 0) -> Any:
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._TIPS[section]
        return self._COLUMNS[section] if role == Qt.ItemDataRole.DisplayRole else None

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column() != 1:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        if role not in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            return None
        row = self._rows[index.row()]
        share = f"{row.share_of_positive_mass:.1%}"
        if self._signed:
            share += f" / −{row.share_of_negative_mass:.1%}"
        return (
            str(row.rank),
            row.name or f"label {row.label}",
            f"{row.mean:.3g}",
            share,
            f"{row.peak:.3g}",
            volume_text(row.volume_mm3),
            place_text(self._layer, row.peak_mm),
        )[index.column()]
