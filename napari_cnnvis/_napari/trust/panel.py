"""The panel "Trust": is a map true?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from napari.utils.theme import get_theme
from qtpy.QtWidgets import (
    QCheckBox,
    QGroupBox,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from napari_cnnvis._napari.layers.maps import keep_trust, map_of
from napari_cnnvis._napari.network.checkpoint_offer import CheckpointOffer
from napari_cnnvis._napari.session.rerun import NetworkMissing
from napari_cnnvis._napari.trust.plot_window import PlotWindow
from napari_cnnvis._napari.trust.tested_map import is_of, subject_of
from napari_cnnvis._napari.trust.verdict_view import VerdictBox
from napari_cnnvis._napari.widgets.file_dialogs import FileDialogs
from napari_cnnvis._napari.widgets.guide_window import add_help
from napari_cnnvis._napari.widgets.jobs import JobRunner
from napari_cnnvis._napari.widgets.layer_picker import LayerPicker
from napari_cnnvis._napari.widgets.panel_base import DockedPanel, button, row
from napari_cnnvis._napari.widgets.preferences import preference
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.evaluate.trust.questions import TRUST_TESTS

__all__ = ["TrustPanel"]

_NO_MAP = "Make a map first: Plugins > CNN Vis > Explain CNN."
_NOT_YET = "Not tested yet. Press Test this map: does it show what the network uses?"


class TrustPanel(DockedPanel):
    """Tests a map: whether it depends on the network, and whether what it marks matters.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self._viewer = napari_viewer
        self._followed: Any = None
        self._dialogs = FileDialogs(self, "report folder")
        self.jobs = JobRunner(self)
        self._build()
        add_help(self, "trust")
        self._connect()
        self._on_map()

    def _build(self) -> None:
        self.map = LayerPicker(self._viewer, fits=map_of)
        self.map.setToolTip("The map that is tested.")
        self.map.setMinimumWidth(90)
        self.about = QLabel()
        self.about.setWordWrap(True)
        asked = QGroupBox("Tests")
        questions = QVBoxLayout(asked)
        self.tests: dict[str, QCheckBox] = {}
        for name, test in TRUST_TESTS.items():
            self.tests[name] = box = QCheckBox(test.question)
            box.setToolTip(f"<p>{test.how}</p>")  # a paragraph, so that it wraps
            box.setChecked(True)
            questions.addWidget(box)
        self.box = VerdictBox()
        self.plot_button = button("Show plot…", "What the tests measured, in a window.")
        self.save_button = button(
            "Save report…", "Verdict, findings, curves and plot as files in a folder."
        )
        content = QWidget()
        column = QVBoxLayout(content)
        for widget in (self.map, self.about, self.box):
            column.addWidget(widget)
        column.addLayout(row(self.plot_button, self.save_button, stretch=(0, 0)))
        column.addWidget(asked)
        column.addStretch()

        self.test_button = button("Test this map", "Run the ticked tests on the chosen map.")
        self.cancel_button.setToolTip("Stop; what was tested so far is kept.")
        self.network = CheckpointOffer(self.session)
        buttons = row(self.test_button, self.cancel_button, stretch=(2, 1))
        self.lay_out(content, self.network, buttons, self.bar, self.status)

    def _connect(self) -> None:
        self.map.layer_changed.connect(self._on_map)
        for box in self.tests.values():
            box.toggled.connect(lambda: self._refresh())
        self.test_button.clicked.connect(lambda: self.test())
        self.cancel_button.clicked.connect(self.jobs.cancel)
        self.plot_button.clicked.connect(lambda: self.show_plot())
        self.save_button.clicked.connect(lambda: self._ask_folder())
        self.network.said.connect(self.say)
        self.follow(self.jobs)
        self.jobs.started.connect(self._refresh)
        self.jobs.finished.connect(self._refresh)
        self.destroyed.connect(lambda: self._forget())

    def docked(self) -> None:
        """Follow the chosen map while the panel is in a window."""
        self._on_map()

    def closed(self) -> None:
        """Stop the test, and follow no map any more."""
        self.jobs.cancel()
        self._follow(None)

    def _forget(self) -> None:
        self.jobs.close()
        self._follow(None)

    # --- the map --------------------------------------------------------------------

    def _on_map(self) -> None:
        self._follow(self.map.layer)
        self.status.setText("")
        self._refresh()

    def _follow(self, layer: Any) -> None:
        """Notice when the map in a layer becomes another."""
        if self._followed is not None:
            for source in (self._followed.events.data, self._followed.events.metadata):
                source.disconnect(self._refresh)
        self._followed = layer
        if layer is not None:
            for source in (layer.events.data, layer.events.metadata):
                source.connect(self._refresh)

    @property
    def report(self) -> Any:
        """The report of the chosen map's last test, or None."""
        map_ = map_of(self.map.layer)
        return None if map_ is None else map_.trust

    # --- testing --------------------------------------------------------------------

    def test(self) -> None:
        """Run the ticked tests on the chosen map, in the background."""
        layer = self.map.layer
        if layer is None or self.jobs.busy:
            return
        try:
            layers, session = self._viewer.layers, self.session
            subject = subject_of(layer, layers, session.loaded, session.heads.snapshot)
        except CnnVisError as exc:
            self.warn(str(exc))
            return
        tests = [name for name, box in self.tests.items() if box.isChecked()]
        device = preference("device")

        def job(progress: Any, cancel: Any) -> Any:
            from napari_cnnvis.evaluate.trust.report import trust_report

            volumes, model = subject.volumes(), subject.model(device)
            return trust_report(
                model,
                volumes,
                subject.attribution(volumes),
                hierarchy=getattr(subject.regions, "hierarchy", None),
                tests=tests,
                progress=progress,
                cancel=cancel,
            )

        def done(report: Any) -> None:
            keep_trust(layer, report)
            took = report.seconds
            self.status.setText(
                f"Tested in {took:.0f} s." if took < 90 else f"Tested in {took / 60:.0f} min."
            )
            self._refresh()

        self.jobs.start(f"Testing {layer.name}", job, done)

    def show_plot(self) -> PlotWindow | None:
        """Open a window with the plot behind the verdict."""
        if self.report is None:
            return None
        theme = get_theme(self._viewer.theme)
        window = PlotWindow(
            self, self.report, (theme.text.as_hex("long"), theme.background.as_hex("long"))
        )
        window.show()
        return window

    def save(self, folder: str | Path) -> None:
        """Write the report into a new folder in `folder`, named after the map."""
        report = self.report
        if report is None or self.jobs.busy:
            return
        name = re.sub(r"[^\w.+-]+", "-", report.attribution.name).strip("-").lower()
        target = Path(folder) / f"trust-{name}"

        def job(progress: Any, cancel: Any) -> Path:
            return report.save(target)

        def done(written: Path) -> None:
            self.status.setText(f"Saved in {target.name}.")
            self.status.setToolTip(str(target))

        self.jobs.start("Saving the report", job, done)

    def _ask_folder(self) -> None:
        folder = self._dialogs.save_in("Save the report in")
        if folder:
            self.save(folder)

    def warn(self, text: str) -> None:
        """Show what went wrong; where the network is lacking, offer to choose it."""
        super().warn(text)
        if isinstance(self.jobs.error, NetworkMissing):
            self.network.offer()

    # --- what is shown ---------------------------------------------------------------

    def _refresh(self, event: Any = None) -> None:
        """Bring every widget in line with the map, its report and the running job."""
        map_, report, busy = map_of(self.map.layer), self.report, self.jobs.busy
        asked = any(box.isChecked() for box in self.tests.values())
        self.test_button.setEnabled(map_ is not None and asked and not busy)
        self.cancel_button.setEnabled(busy)
        self.bar.setVisible(busy)
        self.plot_button.setEnabled(report is not None)
        self.save_button.setEnabled(report is not None and not busy)
        self.about.setVisible(map_ is not None)
        if map_ is None:
            self.box.show_hint(_NO_MAP)
            return
        self.about.setText(f"Scan: {map_.scan.get('name') or 'unknown'}")
        if report is None:
            self.box.show_hint(_NOT_YET)
        else:
            self.box.show_report(report, stale=not is_of(report, map_))
