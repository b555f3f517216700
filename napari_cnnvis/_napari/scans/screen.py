"""The scan that is shown: its layer, its overlay, and what the session knows of it."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QObject, Signal
from superqt.utils import create_worker

from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis._napari.scans.cohort_request import request_or_none
from napari_cnnvis._napari.scans.loader import DISPLAY_AXES, LoadedScan, ScanLoader, Wanted
from napari_cnnvis._napari.scans.swap import keeping_limits, move_to, swap_scan
from napari_cnnvis._napari.session.session import Session
from napari_cnnvis.cohort.entries import ScanEntry

__all__ = ["ScanScreen"]


class ScanScreen(QObject):
    """Shows one scan after the other in the same layer, and its map in the same overlay.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    session : Session
    loader : ScanLoader
    """

    #: a `LoadedScan` is in the viewer now; the session is yet to be told
    swapped = Signal(object)
    #: a map that was made of the shown scan alone is in the store now
    kept = Signal()

    def __init__(
        self, viewer: Any, session: Session, loader: ScanLoader, parent: QObject | None
    ) -> None:
        super().__init__(parent)
        self._viewer, self._session, self._loader = viewer, session, loader
        self._layer: Any = None
        self._hidden: Any = None
        self._kept: Any = None
        self._worker: Any = None
        self.scan: LoadedScan | None = None
        loader.loaded.connect(self._show)
        session.idle.connect(self._keep_result)

    @property
    def layer(self) -> Any:
        """The layer that shows the scan, or None if there is none (any more)."""
        return self._layer if self._layer in self._viewer.layers else None

    @property
    def overlay(self) -> Any:
        """The layer that shows a map of the scan, or None."""
        mine = self.layer is not None and self._session.map.scan == self.layer
        return self._session.map.layer if mine else None

    def wanted(self, entry: ScanEntry) -> Wanted:
        """What is to be loaded to show a scan, with what is kept of it."""
        known = self._loader.knows(self._session.model)
        model = self._session.model if known else None
        request = None if model is None else request_or_none(self._session)
        return Wanted(entry, model, request, self._session.map.head_only)

    def show(self, entry: ScanEntry) -> None:
        """Show a scan as soon as it is loaded."""
        self._loader.fetch(self.wanted(entry))

    def show_again(self) -> None:
        """Look for a map of the shown scan, such as with another method."""
        if self.scan is not None and self.layer is not None:
            self.show(self.scan.wanted.entry)

    def forget(self) -> None:
        """Another study: nothing of it is shown yet."""
        self.scan = None

    # --- the layers ------------------------------------------------------------------

    def _show(self, scan: LoadedScan) -> None:
        before, self.scan = self.scan, scan
        same = before is not None and before.data is scan.data and self.layer is not None
        if same and self.layer.data is scan.data:
            if scan.attribution is not None:
                self.show_map_unless_run(scan.attribution)
            return
        if before is not None:
            self._hide_maps_of(before)
        self._layer = swap_scan(
            self._viewer, self.layer, scan, None if before is None else before.span
        )
        self._session.choose(self._layer, self._session.channels)
        self.swapped.emit(scan)
        if scan.attribution is not None:
            self.show_map(scan.attribution)
        elif self.overlay is not None and self.overlay.visible:
            self._hidden = self.overlay
            self._hidden.visible = False

    def _hide_maps_of(self, scan: LoadedScan) -> None:
        """Other maps of the last scan do not lie over the next one; the eye brings them back."""
        source = scan.volume.source
        for layer in self._viewer.layers:
            map_ = map_of(layer)
            if map_ is not None and layer != self.overlay and map_.scan.get("source") == source:
                layer.visible = False

    def show_map_unless_run(self, attribution: Any) -> None:
        """Show a map of the scan, unless the overlay shows a run of this scan alone."""
        if self._session.result is None:
            self.show_map(attribution)

    def show_map(self, attribution: Any) -> None:
        """Show a map of the scan, in the overlay that is there or in a new one."""
        layer = self.layer
        if layer is None or attribution.data.shape != layer.data.shape:
            return
        overlay, head = self.overlay, self.scan.head
        if overlay is None:
            self._session.show(attribution, layer, head)
            return
        move_to(overlay, layer)
        with keeping_limits(overlay):
            self._session.show(attribution, layer, head)
        if overlay == self._hidden:
            overlay.visible, self._hidden = True, None

    # --- maps of the shown scan alone ----------------------------------------------

    def _keep_result(self) -> None:
        """Put a finished run of the shown scan into the store."""
        scan, layer = self.scan, self.layer
        if scan is None or layer is None or self._session.map.scan != layer:
            return
        result, model = self._session.result, self._session.model
        known = self._loader.knows(model)
        if result is None or result is self._kept or not known or layer.data is not scan.data:
            return
        if result.request != request_or_none(self._session) or self._worker is not None:
            return
        self._kept = result
        loader = self._loader

        def keep() -> bool:
            attribution = result.attribution
            if attribution is None or attribution.partial:
                return False
            key = loader.keys(model).attribution(
                scan.digest, result.request, DISPLAY_AXES, attribution.source.head
            )
            loader.store.put_attribution(key, attribution)
            return True

        self._worker = create_worker(keep, _start_thread=False, _ignore_errors=True)
        self._worker.returned.connect(self._on_kept)
        self._worker.errored.connect(lambda exc: self._on_kept(False))
        self._worker.start()

    def _on_kept(self, done: bool) -> None:
        self._worker = None
        if done:
            self.kept.emit()
