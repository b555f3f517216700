"""The panel "Scans": browse a study, predict and explain all of it."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtCore import QMimeData, Qt
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QVBoxLayout,
)
from superqt import QElidingLabel

from napari_cnnvis._napari.network.checkpoint_offer import CheckpointOffer
from napari_cnnvis._napari.scans.loader import LoadedScan, ScanLoader
from napari_cnnvis._napari.scans.runs import ScanRuns
from napari_cnnvis._napari.scans.scan_list import NEXT_KEY, PREVIOUS_KEY, ScansView
from napari_cnnvis._napari.scans.screen import ScanScreen
from napari_cnnvis._napari.widgets.file_dialogs import FileDialogs
from napari_cnnvis._napari.widgets.guide_window import add_help
from napari_cnnvis._napari.widgets.jobs import JobRunner
from napari_cnnvis._napari.widgets.panel_base import DockedPanel, button, row
from napari_cnnvis._napari.widgets.preferences import preference
from napari_cnnvis.cohort.entries import ScanEntry, ScanList
from napari_cnnvis.cohort.store import ResultStore
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.progress import Progress

__all__ = ["ScansPanel"]

_EMPTY = "Open a folder, a BIDS tree or a table (Path, Label) of scans, or drop one here."


class ScansPanel(DockedPanel):
    """Lists the scans of a study, shows them in one layer, and runs the network on all.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    store : ResultStore, optional
        By default the one in the folder of the user's caches, as large as the
        Preferences allow.
    """

    def __init__(self, napari_viewer: Any, store: ResultStore | None = None) -> None:
        super().__init__(napari_viewer, lines=3)
        self._viewer = napari_viewer
        self._entries: list[ScanEntry] = []
        if store is None:
            store = ResultStore(limit=int(float(preference("cache_gigabytes")) * 1e9))
        self._dialogs = FileDialogs(self, "scans_folder")
        self.jobs = JobRunner(self)
        self.loader = ScanLoader(store, self)
        self.screen = ScanScreen(napari_viewer, self.session, self.loader, self)
        self.runs = ScanRuns(self.session, self.loader, self)
        self._build()
        add_help(self, "scans")
        self._connect()
        self._bind_keys()
        self._refresh()
        self.status.setText(_EMPTY)

    def _build(self) -> None:
        self.setAcceptDrops(True)
        self.open_folder = button("Open folder…", "A folder of scans, or a BIDS tree.")
        self.open_table = button(
            "Open CSV…",
            "A table with the columns Path and, where known, Label, Subject and Name; separated by "
            "commas, semicolons or tabs.",
        )
        self.place = QElidingLabel("")
        self.place.setElideMode(Qt.TextElideMode.ElideMiddle)
        self.scans = ScansView()
        self.scans.search.setAcceptDrops(False)
        self.counts = QLabel()
        #: what was not found, such as labels
        self.found = QLabel()
        self.found.setWordWrap(True)
        self.found.hide()
        self.predict_button = button(
            "Predict all", "The network's prediction for every scan, kept on disk."
        )
        self.run_button = button(
            "Run method on all",
            "Predict every scan, then run the method on each, with the parameters that are set in the "
            "panel Explain CNN; if it was not opened, that of the Preferences. Maps are kept on disk.",
        )
        self.cancel_button.setToolTip("Stop; what was done is kept.")
        self.network = CheckpointOffer(self.session)
        sources = QHBoxLayout()
        sources.addWidget(self.open_folder)
        sources.addWidget(self.open_table)
        sources.addWidget(self.place, 1)
        column = QVBoxLayout(self)
        column.addLayout(sources)
        column.addWidget(self.scans, 1)
        column.addWidget(self.counts)
        column.addWidget(self.found)
        column.addWidget(self.network)
        actions = self.predict_button, self.run_button, self.cancel_button
        column.addLayout(row(*actions, stretch=(0, 1, 0)))
        column.addWidget(self.bar)
        column.addWidget(self.status)

    def _connect(self) -> None:
        self.open_folder.clicked.connect(self._ask_folder)
        self.open_table.clicked.connect(self._ask_table)
        self.scans.chosen.connect(self.show_scan)
        self.predict_button.clicked.connect(lambda: self.run(with_maps=False))
        self.run_button.clicked.connect(lambda: self.run())
        self.cancel_button.clicked.connect(self.cancel)
        self.jobs.started.connect(lambda what: self.say(what + " …"))
        self.jobs.failed.connect(self.warn)
        self.jobs.finished.connect(self._refresh)
        self.network.said.connect(self.say)
        self.loader.failed.connect(self._on_unreadable)
        self.screen.swapped.connect(self._on_swapped)
        self.screen.kept.connect(self.runs.look_up)
        self.runs.outcome.connect(self._on_outcome)
        self.runs.changed.connect(self._refresh)
        self.runs.learned.connect(self._on_request)
        self.runs.said.connect(self.status.setText)
        self.session.model_changed.connect(self._on_model)
        self.session.request_changed.connect(self._on_request)
        self.session.progressed.connect(self._on_progressed)
        self.session.idle.connect(self._predict_shown)
        self.destroyed.connect(self._closer())

    # --- a study ---------------------------------------------------------------------

    def open(self, path: str | Path) -> None:
        """List the scans of a folder or a table, and show the first one."""
        path = Path(path)

        def job(progress: Any, cancel: Any) -> ScanList:
            from napari_cnnvis.cohort.finding import find_scans

            return find_scans(path)

        def done(entries: ScanList) -> None:
            self._dialogs.remember(path if path.is_dir() else path.parent)
            self.place.setText(path.name)
            self.place.setToolTip(str(path))
            self.show_entries(entries)
            self.found.setText(" ".join(entries.notes))
            self.found.setVisible(bool(entries.notes))

        self.jobs.start(f"Looking for scans in {path.name}", job, done)
        self._refresh()

    def show_entries(self, entries: list[ScanEntry]) -> None:
        """List scans, and show the first one that is there."""
        self._entries = entries
        self.screen.forget()
        self.runs.show_entries(entries)
        self.scans.show_entries(entries)
        missing = sum(bool(entry.problem) for entry in entries)
        self.status.setText(f"{missing} of {len(entries)} cannot be read." if missing else "")
        self._refresh()
        self.runs.look_up()
        first = next((i for i, entry in enumerate(entries) if not entry.problem), None)
        if first is not None:
            self.show_scan(first)

    def _ask_folder(self) -> None:
        path = self._dialogs.open_folder("Open a folder of scans")
        if path:
            self.open(path)

    def _ask_table(self) -> None:
        kinds = "Tables (*.csv *.tsv *.txt);;All files (*)"
        path = self._dialogs.open_file("Open a table", kinds)
        if path:
            self.open(path)

    def dragEnterEvent(self, event: Any) -> None:
        if _dropped(event.mimeData()):
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:
        path = _dropped(event.mimeData())
        if path:
            event.acceptProposedAction()
            self.open(path)

    # --- one scan --------------------------------------------------------------------

    @property
    def layer(self) -> Any:
        """The layer that shows the scans, or None."""
        return self.screen.layer

    def show_scan(self, number: int) -> None:
        """Show a scan of the table in the viewer."""
        shown = self.screen.scan
        entry = self._entries[number]
        again = self.scans.shown == number and shown is not None and shown.wanted.entry is entry
        if again and self.layer is not None:
            return
        self.scans.show_chosen(number)
        self.screen.show(entry)

    def step(self, by: int) -> None:
        """Show the scan so many rows below in the table."""
        self.scans.step(by)

    def _on_swapped(self, scan: LoadedScan) -> None:
        """Tell the session, and load the next scan before it is asked for."""
        number = self.scans.shown
        if number is None or self._entries[number] is not scan.wanted.entry:
            return
        problem = self.scans.table.rows[number].problem
        notes = scan.volume.notes if scan.prediction is None else scan.prediction.notes
        if not self.runs.running:
            self.status.setText(f"⚠ {problem}" if problem else " ".join(notes))
        known = scan.prediction
        if known is None:
            self._predict_shown()
            self.session.scan_replaced()
        elif self.session.model is not None:
            self.session.scan_replaced(known.values)
        following = self.scans.neighbour(1)
        if following is not None:
            self.loader.prefetch(self.screen.wanted(self._entries[following]))

    def _predict_shown(self) -> None:
        """Ask the network what it says of the shown scan, if that is not known."""
        number, scan = self.scans.shown, self.screen.scan
        if number is None or scan is None or self._entries[number] is not scan.wanted.entry:
            return
        row = self.scans.table.rows[number]
        if row.prediction is None and not row.problem and scan.prediction is None:
            self.runs.predict(number)

    def _on_unreadable(self, entry: ScanEntry, text: str) -> None:
        self.warn(text)

    # --- all scans ---------------------------------------------------------------------

    def run(self, with_maps: bool = True) -> None:
        """Predict all scans and, unless told otherwise, run the method on them."""
        try:
            self.runs.run(with_maps)
        except CnnVisError as exc:
            self.warn(str(exc))
            if self.session.model is None:
                self.network.offer()

    def cancel(self) -> None:
        """Stop what runs on all scans."""
        self.runs.cancel()

    def _on_outcome(self, number: int, outcome: Any, model: Any, looked_up: bool) -> None:
        row = self.scans.table.rows[number]
        if looked_up and outcome.prediction is None and row.problem:
            return  # it failed with this network before
        self.scans.table.show_outcome(number, outcome, model)
        self._show_counts()
        scan = self.screen.scan
        if looked_up or scan is None or scan.wanted.entry is not row.entry:
            return
        if outcome.prediction is not None and not self.session.ready:
            self.session.scan_replaced(outcome.prediction.values)
        if outcome.attribution is not None:
            self.screen.show_map_unless_run(outcome.attribution)

    def _on_progressed(self, progress: Progress) -> None:
        if self.runs.running:
            self.advance(progress)

    def progress_text(self, progress: Progress, left: str) -> str:
        """Which scan it is, and how many are done."""
        counts = f"{progress.what}, {progress.done} of {progress.total} done"
        return ", ".join(filter(None, [counts, left]))

    def _on_model(self) -> None:
        self.scans.table.forget_results()
        self._refresh()
        self.runs.look_up()
        self.screen.show_again()

    def _on_request(self) -> None:
        self.runs.look_up()
        self.screen.show_again()

    # --- what is shown -----------------------------------------------------------------

    def _refresh(self) -> None:
        running = self.runs.running
        for source in (self.open_folder, self.open_table):
            source.setEnabled(not self.jobs.busy)
        for action in (self.predict_button, self.run_button):
            action.setEnabled(bool(self._entries) and not running)
        self.cancel_button.setEnabled(running)
        self.bar.setVisible(running)
        if running:
            self._stage = ""
            self.bar.setRange(0, 0)
        self._show_counts()

    def _show_counts(self) -> None:
        self.counts.setText(self.scans.table.summary() if self._entries else "")

    # --- keys, and the end ---------------------------------------------------------------

    def _bind_keys(self) -> None:
        """In the panel and, with a link that does not keep the panel alive, in the viewer."""
        panel = weakref.ref(self)
        for key, by in ((PREVIOUS_KEY, -1), (NEXT_KEY, 1)):
            shortcut = QShortcut(QKeySequence(key), self)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(lambda by=by: self.step(by))

            def step(viewer: Any, by: int = by) -> None:
                if (alive := panel()) is not None:
                    alive.step(by)

            self._viewer.bind_key(key, step, overwrite=True)

    def _closer(self) -> Callable[[], None]:
        """What ends all that the panel began, without the panel itself."""
        jobs, loader, runs = self.jobs, self.loader, self.runs
        viewer = self._viewer

        def close() -> None:
            for key in (PREVIOUS_KEY, NEXT_KEY):
                with contextlib.suppress(KeyError):
                    viewer.bind_key(key, None, overwrite=True)
            for part in (runs, loader, jobs):
                with contextlib.suppress(RuntimeError):  # Qt has destroyed it
                    part.close()

        return close

    def closed(self) -> None:
        """Stop everything, and leave the keys."""
        self.screen.forget()
        self._closer()()


def _dropped(mime: QMimeData) -> str:
    return next((url.toLocalFile() for url in mime.urls() if url.isLocalFile()), "")
