"""The panel "Maps": compare maps, see where each comes from, run one again, copy it as Python."""

from __future__ import annotations

from html import escape
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import (
    QGroupBox,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
)
from superqt.utils import signals_blocked

from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis._napari.layers.one_volume import shape_of
from napari_cnnvis._napari.maps.comparison import GridOfMaps, SharedLimits, difference
from napari_cnnvis._napari.network.checkpoint_offer import CheckpointOffer
from napari_cnnvis._napari.session.rerun import NetworkMissing
from napari_cnnvis._napari.widgets.guide_window import add_help
from napari_cnnvis._napari.widgets.layer_picker import is_scan
from napari_cnnvis._napari.widgets.panel_base import DockedPanel, button, row
from napari_cnnvis._napari.widgets.text_window import show_text
from napari_cnnvis.errors import CnnVisError, shortened
from napari_cnnvis.progress import Progress

__all__ = ["MapsPanel"]

_NO_MAPS = "No maps yet: run a method in the panel Explain CNN, or open a saved map."


class MapsPanel(DockedPanel):
    """Lists the maps in the viewer; the ticked ones are compared, the chosen one is described.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self._running = False
        self._viewer = napari_viewer
        self._shared: SharedLimits | None = None
        self._grid: GridOfMaps | None = None
        self.list = QListWidget()
        self.list.setToolTip("Tick the maps to compare; choose one to see where it comes from.")
        self.share = button(
            "Share limits", "The same colours mean the same values in all ticked maps."
        )
        self.share.setCheckable(True)
        self.grid = button(
            "Grid", "Each ticked map on its own copy of the scan, with one camera for all."
        )
        self.grid.setCheckable(True)
        self.subtract = button("Difference", "A layer with the first ticked map minus the second.")
        self.about = QLabel()
        self.about.setWordWrap(True)
        self.about.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.copy = button(
            "Copy as Python", "A script that makes this map again, in the clipboard."
        )
        self.again = button(
            "Run again", "Load the network and run the method with the same settings."
        )
        self.reading = button(
            "How to read it", "What the map's values mean, and what to beware of."
        )
        self.network = CheckpointOffer(self.session)
        one = QGroupBox("Chosen map")
        inside = QVBoxLayout(one)
        inside.addWidget(self.about)
        inside.addLayout(row(self.copy, self.again, self.reading, stretch=(0, 0, 0)))
        inside.addWidget(self.network)
        column = QVBoxLayout(self)
        column.addWidget(self.list, 1)
        column.addLayout(row(self.share, self.grid, self.subtract, stretch=(0, 0, 0)))
        column.addWidget(one)
        column.addLayout(row(self.bar, self.cancel_button))
        column.addWidget(self.status)
        self.cancel_button.setToolTip("Stop; the part of a sensitivity map that is done is kept.")
        add_help(self, "maps")
        events = napari_viewer.layers.events
        self._sources = [events.inserted, events.removed, events.reordered, events.renamed]
        for source in self._sources:
            source.connect(self.refresh)
        self.destroyed.connect(lambda: self._disconnect())
        self.list.currentItemChanged.connect(lambda: self._describe())
        self.list.itemChanged.connect(lambda: self._on_ticked())
        self.share.toggled.connect(self._on_share)
        self.grid.toggled.connect(self._on_grid)
        self.subtract.clicked.connect(self._subtract)
        self.copy.clicked.connect(self._copy)
        self.again.clicked.connect(self._run_again)
        self.reading.clicked.connect(self._show_reading)
        self.cancel_button.clicked.connect(self.session.jobs.cancel)
        self.network.said.connect(self.say)
        self.session.started.connect(self._on_started)
        self.session.progressed.connect(self._on_progressed)
        self.session.said.connect(self._on_said)
        self.session.failed.connect(self._on_failed)
        self.session.stopped.connect(self._on_said)
        self.session.idle.connect(self._on_idle)
        self._show_progress()
        self.refresh()

    def _disconnect(self) -> None:
        for source in self._sources:
            source.disconnect(self.refresh)
        self._sources = []

    def closed(self) -> None:
        """Leave the grid and the shared limits behind."""
        self.grid.setChecked(False)
        self.share.setChecked(False)

    # --- the list ------------------------------------------------------------------

    def refresh(self, event: Any = None) -> None:
        """List the maps again; ticks and the chosen one stay."""
        ticked, chosen = self.ticked, self.chosen
        known = {id(layer) for layer in self._listed()}
        with signals_blocked(self.list):
            self.list.clear()
            # as in napari's list: the top one first
            for layer in reversed(list(self._viewer.layers)):
                if map_of(layer) is None:
                    continue
                item = QListWidgetItem(layer.name)
                item.setData(Qt.ItemDataRole.UserRole, layer)
                on = any(layer is t for t in ticked) or id(layer) not in known
                item.setCheckState(Qt.CheckState.Checked if on else Qt.CheckState.Unchecked)
                self.list.addItem(item)
                if layer is chosen:
                    self.list.setCurrentItem(item)
            if self.list.currentItem() is None and self.list.count():
                self.list.setCurrentRow(0)
        self._on_ticked()
        self._describe()

    def _listed(self) -> list[Any]:
        return [
            self.list.item(row).data(Qt.ItemDataRole.UserRole) for row in range(self.list.count())
        ]

    @property
    def ticked(self) -> list[Any]:
        """The layers to compare, the top one first."""
        rows = [self.list.item(row) for row in range(self.list.count())]
        return [
            item.data(Qt.ItemDataRole.UserRole)
            for item in rows
            if item.checkState() == Qt.CheckState.Checked
        ]

    @property
    def chosen(self) -> Any:
        """The layer that is described, or None."""
        item = self.list.currentItem()
        return None if item is None else item.data(Qt.ItemDataRole.UserRole)

    # --- compare -------------------------------------------------------------------

    def _on_ticked(self) -> None:
        count = len(self.ticked)
        self.share.setEnabled(count >= 2 or self.share.isChecked())
        self.grid.setEnabled(count >= 2 or self.grid.isChecked())
        self.subtract.setEnabled(count == 2)
        if self._shared is not None:
            self._on_share(False)
            self._on_share(count >= 2)
            with signals_blocked(self.share):
                self.share.setChecked(count >= 2)

    def _on_share(self, on: bool) -> None:
        if self._shared is not None:
            self._shared.disconnect()
            self._shared = None
        if on and len(self.ticked) >= 2:
            self._shared = SharedLimits(self.ticked)
            records = [map_.provenance for map_ in map(map_of, self.ticked) if map_ is not None]
            units = {(record.get("method"), record.get("score")) for record in records}
            if len(units) > 1:
                self.warn(
                    "These maps have different units; the same colour means different things in each."
                )

    def _on_grid(self, on: bool) -> None:
        if self._grid is not None:
            grid, self._grid = self._grid, None
            grid.leave()
        if not on:
            return
        scan = self._scan_of(self.ticked[0]) if self.ticked else None
        if scan is None:
            self.warn("The scan of the ticked maps is not in the viewer; open it first.")
            self.grid.setChecked(False)
            return
        self._grid = GridOfMaps(self._viewer, scan, self.ticked)
        self._viewer.reset_view()

    def _scan_of(self, overlay: Any) -> Any:
        """The scan that a map lies on: of its name, or else of its shape."""
        map_ = map_of(overlay)
        name = None if map_ is None else map_.scan.get("name")
        scans = [
            layer
            for layer in self._viewer.layers
            if is_scan(layer) and shape_of(layer) == overlay.data.shape
        ]
        return next((s for s in scans if s.name == name), scans[0] if scans else None)

    def _subtract(self) -> None:
        try:
            data, arguments = difference(*self.ticked)
        except CnnVisError as exc:
            self.warn(str(exc))
            return
        self._viewer.add_image(data, **arguments).colorbar.visible = True

    # --- one map -------------------------------------------------------------------

    def _describe(self) -> None:
        map_ = map_of(self.chosen)
        for one in (self.copy, self.again, self.reading):
            one.setEnabled(map_ is not None)
        if map_ is None:
            self.about.setText(_NO_MAPS)
            return
        record = map_.provenance
        rows = [f"<b>{label}</b>: {escape(text)}" for label, text in _facts(record) if text]
        self.about.setText("<br>".join(rows))
        runnable = record.get("method") != "Difference"
        self.copy.setEnabled(runnable)
        self.again.setEnabled(runnable)

    def _copy(self) -> None:
        from napari_cnnvis.explain.record import Record

        try:
            script = Record.read(map_of(self.chosen).provenance).script()
        except CnnVisError as exc:
            self.warn(str(exc))
            return
        QGuiApplication.clipboard().setText(script)
        missing = " Complete the lines marked TODO." if "# TODO" in script else ""
        self.say(f"The script is in the clipboard.{missing}")

    def _run_again(self) -> None:
        self._running = True
        try:
            self.session.run_again(map_of(self.chosen).provenance)
        except CnnVisError as exc:
            self._running = False
            self.warn(str(exc))
            if isinstance(exc, NetworkMissing):
                self.network.offer()
        self._on_idle()

    def _on_started(self, what: str) -> None:
        if self._running:
            self.begin(what)
            self._show_progress()

    def _on_progressed(self, progress: Progress) -> None:
        if self._running:
            self.advance(progress)

    def _on_said(self, text: str) -> None:
        if self._running:
            self.say(text)

    def _on_failed(self, text: str) -> None:
        if self._running:
            self.warn(text)

    def _on_idle(self) -> None:
        if not self.session.jobs.busy:
            self._running = False
        self._show_progress()

    def _show_progress(self) -> None:
        for widget in (self.bar, self.cancel_button):
            widget.setVisible(self._running)

    def _show_reading(self) -> None:
        from napari_cnnvis.explain.how_to_read import how_to_read

        method = map_of(self.chosen).provenance["method"]
        text = "".join(f"<p>{paragraph}</p>" for paragraph in how_to_read(method))
        show_text(self, f"How to read a map of {method}", text)


def _facts(record: dict[str, Any]) -> list[tuple[str, str]]:
    """What a map's record says, for people."""
    model, scan = record.get("model") or {}, record.get("scan") or {}
    known = ("method", "class", "class_name", "model", "scan", "versions", "time", "engine", "of")
    known += ("baseline_sources", "hierarchy", "level_counts", "notes")
    parameters = ", ".join(
        f"{k} {_short(v)}"
        for k, v in record.items()
        if k not in known and v not in (None, [], {}) and (k, v) != ("partial", False)
    )
    versions = ", ".join(f"{k} {v}" for k, v in (record.get("versions") or {}).items())
    network = ""
    if model:
        network = (
            f"{model.get('architecture')} ({model.get('weights_sha256')}), on {model.get('device')}"
        )
    return [
        ("Method", record.get("method", "")),
        ("Target", record.get("class_name", "")),
        ("Parameters", parameters),
        ("Network", network),
        ("Architecture", shortened(model.get("arch") or "")),
        ("Scan", scan.get("name", "")),
        ("Made", " · ".join(filter(None, [record.get("time", ""), versions]))),
    ]


def _short(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
