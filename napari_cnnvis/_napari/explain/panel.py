"""The panel "Explain CNN": scan, checkpoint, method, run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtWidgets import (
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_cnnvis._napari.explain.method_form import MethodForm
from napari_cnnvis._napari.network.box import NetworkBox
from napari_cnnvis._napari.session.run_steps import summary_of
from napari_cnnvis._napari.widgets.guide_window import add_help
from napari_cnnvis._napari.widgets.jobs import JobRunner
from napari_cnnvis._napari.widgets.panel_base import DockedPanel, row
from napari_cnnvis.errors import CnnVisError

__all__ = ["ExplainPanel"]


class ExplainPanel(DockedPanel):
    """Runs CAM, Grad-CAM, UCM sensitivity or box occlusion on a scan and shows the map as an overlay.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer, lines=6)
        self._viewer = napari_viewer
        self._build()
        add_help(self, "explain")
        self._connect()
        self._refresh()
        self._take_up()

    def _take_up(self) -> None:
        """Go on where a panel that was closed, or another one, has left off."""
        model, last = self.session.model, self.session.asked.last
        if self.session.result is not None:
            self._on_result()
        if model is not None and last is not None:
            self.method_form.show_request(last, model.class_names)

    def _build(self) -> None:
        self.network = NetworkBox(self._viewer, self.session)
        self.scan = self.network.scan
        self.method_form = MethodForm(self._viewer, self.scan)
        self.method_form.head_only.setChecked(self.session.map.head_only)

        content = QWidget()
        column = QVBoxLayout(content)
        column.addWidget(self.network)
        column.addWidget(self.method_form)
        column.addStretch()

        self.run_button = QPushButton("Run")
        self.cancel_button.setToolTip("Stop; the part of a sensitivity map that is done is kept.")
        buttons = row(self.run_button, self.cancel_button, stretch=(2, 1))
        self.lay_out(content, buttons, self.bar, self.status)

    def _connect(self) -> None:
        session = self.session
        session.scan_changed.connect(self._refresh)
        session.model_changed.connect(self._on_model)
        session.predictions_changed.connect(self._refresh)
        session.scored.connect(self._on_scored)
        session.result_changed.connect(self._on_result)
        session.said.connect(self.status.setText)
        session.started.connect(self._refresh)
        self.follow(session)
        session.idle.connect(self._refresh)
        self.method_form.view_changed.connect(self._on_view_changed)
        self.method_form.head_only_changed.connect(self._on_head_only)
        self.run_button.clicked.connect(lambda: self.run())
        self.cancel_button.clicked.connect(session.jobs.cancel)
        session.asked.follow(self.method_form)
        self.destroyed.connect(self._closer())

    def docked(self) -> None:
        """Say what to run while the panel is in a window."""
        self.session.asked.follow(self.method_form)

    def closed(self) -> None:
        """Stop the panel's run; what others do with the network goes on."""
        self.network.head.show_button.setChecked(False)
        self._closer()()

    def _closer(self) -> Callable[[], None]:
        """What ends all that the panel began, without the panel itself."""
        session, form, preview = self.session, self.method_form, self.network.preview.jobs

        def close() -> None:
            session.asked.leave(form)
            session.stop_run()
            preview.close()

        return close

    # --- the network -------------------------------------------------------------

    @property
    def jobs(self) -> JobRunner:
        """What runs with the network."""
        return self.session.jobs

    @property
    def ready(self) -> bool:
        """True when a scan and a model are there and the scan was scored."""
        return self.session.ready

    @property
    def overlay(self) -> Any:
        """The layer that shows the last map, or None if it is gone."""
        return self.session.map.layer

    def load_model(self, path: str | Path) -> None:
        """Load a checkpoint in the background and show what it is."""
        self.network.load(path)

    def use_model(self, model: Any) -> None:
        """Explain a `Model` made in Python, such as in the viewer's console."""
        self.session.use(model)

    def _on_model(self) -> None:
        if not self.session.jobs.busy:
            self.status.setText("")
        self._refresh()

    def _on_scored(self, notes: str) -> None:
        if self.session.model.outputs.has_probabilities:
            self.method_form.choose_class(int(self.session.predictions.argmax()))
        self.status.setText(notes)

    # --- running -----------------------------------------------------------------

    def run(self) -> None:
        """Run the chosen method and add its map as a layer."""
        self.session.run()

    def _on_result(self) -> None:
        result = self.session.result
        self.method_form.show_baselines(() if result is None else result.baselines)
        if result is not None:
            self.method_form.show_levels(result.levels)

    def _on_view_changed(self) -> None:
        """Another layer, class, score or baseline of a run that is kept: show it at once."""
        result, shown = self.session.result, self.session.map
        if result is None or self.session.jobs.busy or shown.layer is None:
            return
        try:
            attribution = result.view(self.method_form.view_request())
        except CnnVisError as exc:
            self.warn(str(exc))
            return
        if attribution is not None:
            shown.show(attribution)
            self.status.setText(summary_of(attribution, shown.head))

    def _on_head_only(self) -> None:
        self.session.map.hide_outside(self.method_form.head_only.isChecked())

    # --- what is shown -----------------------------------------------------------

    def _refresh(self) -> None:
        """Bring every widget in line with the scan, the model and the running job."""
        session, busy = self.session, self.session.jobs.busy
        self.run_button.setEnabled(session.model is not None and session.has_input and not busy)
        self.cancel_button.setEnabled(busy)
        self.bar.setVisible(busy)
        self.method_form.setEnabled(session.model is not None)
        if session.model is not None and not session.failing:
            self.method_form.show_model(session.model, session.grid_shape)
        self.network.refresh()
