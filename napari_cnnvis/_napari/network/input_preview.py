"""What the network sees of a scan, as image layers that follow the edited settings."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QObject
from superqt.utils import qdebounced

from napari_cnnvis._napari.layers.metadata import as_aside
from napari_cnnvis._napari.layers.scans import layer_to_volume, volume_to_layer
from napari_cnnvis._napari.widgets.jobs import JobRunner

__all__ = ["InputPreview"]

#: milliseconds of quiet after an edit before the preview is made again
_QUIET = 200


class InputPreview(QObject):
    """Shows conformed channels as layers; made in the background.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._layers: list[Any] = []
        self._wanted: tuple[Any, Any] | None = None
        self._shown_for: tuple[Any, Any] | None = None
        self.jobs = JobRunner(self)
        self.jobs.finished.connect(self._again)
        self._start_soon = qdebounced(self._start, timeout=_QUIET, parent=self)

    def show(self, snapshots: Any, spec: Any) -> None:
        """Show what a network with this input specification sees of these layers."""
        self._wanted = snapshots, spec
        self._start_soon()

    def remove(self) -> None:
        """Take the layers away."""
        self._wanted = None
        self._start_soon.cancel()
        self._remove_layers()

    def _remove_layers(self) -> None:
        for layer in self._layers:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self._layers = []

    def _start(self) -> None:
        if self._wanted is None or self.jobs.busy:
            return
        wanted = snapshots, spec = self._wanted

        def job(progress: Any, cancel: Any) -> Any:
            from napari_cnnvis.scan.conform import conform
            from napari_cnnvis.scan.volume import Volume

            volumes = tuple(layer_to_volume(*taken) for taken in snapshots)
            conformed = conform(volumes, spec)
            return [
                volume_to_layer(Volume(data, conformed.affine, f"model input: {volume.name}"))
                for data, volume in zip(conformed.channels, volumes, strict=True)
            ]

        def done(made: list[Any]) -> None:
            if self._wanted is not None:
                self._put(made)

        self._shown_for = wanted
        self.jobs.start("Preparing the network's input", job, done)

    def _again(self) -> None:
        """What was asked for while the last one was made."""
        if self._wanted is not None and self._wanted is not self._shown_for:
            self._start()

    def _put(self, made: list[Any]) -> None:
        self._layers = [layer for layer in self._layers if layer in self._viewer.layers]
        if len(self._layers) != len(made):
            self._remove_layers()
        for number, (data, arguments) in enumerate(made):
            if number < len(self._layers):
                layer = self._layers[number]
                layer.data = data
                layer.scale, layer.translate = arguments["scale"], arguments["translate"]
                layer.name = arguments["name"]
            else:
                layer = self._viewer.add_image(data, **as_aside(arguments))
                self._layers.append(layer)
            low, high = float(data.min()), float(data.max())
            layer.contrast_limits = (low, high if high > low else low + 1)
