"""What the panel "Scans" takes from the panel "Explain CNN" of the same viewer."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_cnnvis._napari.explain_panel import ExplainPanel
from napari_cnnvis._napari.panels import panel_of
from napari_cnnvis.errors import CnnVisError, MethodError
from napari_cnnvis.explain.options import ExplainRequest

__all__ = ["ExplainLink"]

#: milliseconds from one look for the panel to the next, and of quiet after a choice in it
_LOOK, _QUIET = 1000, 300
_NO_MODEL = (
    "Open the panel Explain CNN (Plugins > CNN Vis) and choose a checkpoint there; its network and "
    "method are used."
)


class ExplainLink(QObject):
    """Follows the panel "Explain CNN", which may be opened and closed at any time.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    #: another network, or none
    model_changed = Signal()
    #: another method or parameter was chosen
    request_changed = Signal()
    #: a job in that panel came to its end
    idle = Signal()
    progressed = Signal(object)
    failed = Signal(str)

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._linked: ExplainPanel | None = None
        self._model: Any = None
        self._quiet = QTimer(self)
        self._quiet.setSingleShot(True)
        self._quiet.setInterval(_QUIET)
        self._quiet.timeout.connect(self.request_changed)
        self._look = QTimer(self)
        self._look.timeout.connect(self._look_for_panel)
        self._look.start(_LOOK)

    @property
    def panel(self) -> ExplainPanel | None:
        """The panel, if it is open."""
        found = panel_of(self._viewer, ExplainPanel)
        if found is not self._linked:
            self._unlink()
            self._linked = found
            if found is not None:
                for signal, slot in self._connections(found):
                    signal.connect(slot)
            self._on_model()
        return found

    @property
    def model(self) -> Any:
        """The network, or None."""
        panel = self.panel
        return None if panel is None else panel.network.model

    @property
    def busy(self) -> bool:
        """Whether the panel runs something; the network is used by one job at a time."""
        panel = self.panel
        return panel is not None and panel.jobs.busy

    def checked_model(self) -> Any:
        """The network.

        Raises
        ------
        CnnVisError
            If there is none, or it takes several channels.
        """
        model = self.model
        if model is None:
            raise CnnVisError(_NO_MODEL)
        channels = model.input_spec.channels
        if channels > 1:
            raise CnnVisError(
                f"This network takes {channels} input channels, but a scan here is one file; open "
                "its images as layers and use the panel Explain CNN."
            )
        return model

    def request(self) -> ExplainRequest:
        """The method and its parameters as they are set.

        Raises
        ------
        CnnVisError
            If they do not fit together, or take supervoxels of a layer.
        """
        form = self.panel.method_form
        request = form.request()
        if request.method == "sensitivity" and form.hierarchy.layer is not None:
            raise MethodError(
                "Supervoxels of a layer belong to one scan; choose 'built from the scan' in the panel "
                "Explain CNN."
            )
        return request

    def request_or_none(self) -> ExplainRequest | None:
        """The request, or None where there is none for all scans."""
        try:
            return None if self.model is None else self.request()
        except CnnVisError:
            return None

    def _look_for_panel(self) -> None:
        # a method, not a lambda: Qt lets go of it before the timer is destroyed
        _ = self.panel

    def close(self) -> None:
        """Stop following."""
        self._look.stop()
        self._quiet.stop()
        self._unlink()

    def _connections(self, panel: ExplainPanel) -> list[tuple[Any, Any]]:
        return [
            (panel.network.model_changed, self._on_model),
            (panel.method_form.view_changed, self._quiet.start),
            (panel.method_form.head_only_changed, self._quiet.start),
            (panel.method_form.method.currentIndexChanged, self._quiet.start),
            (panel.jobs.finished, self.idle),
            (panel.jobs.progressed, self.progressed),
            (panel.jobs.failed, self.failed),
        ]

    def _unlink(self) -> None:
        if self._linked is None:
            return
        try:
            for signal, slot in self._connections(self._linked):
                signal.disconnect(slot)
        except (RuntimeError, TypeError):  # Qt has destroyed it
            pass
        self._linked = None

    def _on_model(self) -> None:
        model = None if self._linked is None else self._linked.network.model
        if model is not self._model:
            self._model = model
            self.model_changed.emit()
