"""The scan that is shown: its layer, its overlay, and what the panel "Explain CNN" knows of it."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QObject, Signal
from superqt.utils import create_worker

from napari_cnnvis._napari.overlay import OVERLAY_KEY, is_overlay
from napari_cnnvis._napari.scans_link import ExplainLink
from napari_cnnvis._napari.scans_loader import DISPLAY_AXES, LoadedScan, ScanLoader, Wanted
from napari_cnnvis._napari.scans_swap import keeping_limits, move_to, swap_scan
from napari_cnnvis.cohort.entries import ScanEntry

__all__ = ["ScanScreen"]


class ScanScreen(QObject):
    """Shows one scan after the other in the same layer, and its map in the same overlay.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    link : ExplainLink
    loader : ScanLoader
    """

    #: a `LoadedScan` is in the viewer now; Explain CNN is yet to be told
    swapped = Signal(object)
    #: a map that was made in the panel "Explain CNN" is in the store now
    kept = Signal()

    def __init__(
        self, viewer: Any, link: ExplainLink, loader: ScanLoader, parent: QObject | None
    ) -> None:
        super().__init__(parent)
        self._viewer, self._link, self._loader = viewer, link, loader
        self._layer: Any = None
        self._hidden: Any = None
        self._kept: Any = None
        self._worker: Any = None
        self.scan: LoadedScan | None = None
        loader.loaded.connect(self._show)
        link.idle.connect(self._keep_result)

    @property
    def layer(self) -> Any:
        """The layer that shows the scan, or None if there is none (any more)."""
        return self._layer if self._layer in self._viewer.layers else None

    @property
    def overlay(self) -> Any:
        """The layer that shows a map of the scan, or None."""
        explain = self._link.panel
        mine = explain is not None and self.layer is not None and explain.overlay_scan == self.layer
        return explain.overlay if mine else None

    def wanted(self, entry: ScanEntry) -> Wanted:
        """What is to be loaded to show a scan, with what is kept of it."""
        explain = self._link.panel
        model = self._link.model if self._loader.knows(self._link.model) else None
        request = None if model is None else self._link.request_or_none()
        head = explain is not None and explain.method_form.head_only.isChecked()
        return Wanted(entry, model, request, head)

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
        self._choose_layer()
        self.swapped.emit(scan)
        if scan.attribution is not None:
            self.show_map(scan.attribution)
        elif self.overlay is not None and self.overlay.visible:
            self._hidden = self.overlay
            self._hidden.visible = False

    def _choose_layer(self) -> None:
        """Make the scan's layer the one that Explain CNN runs on."""
        explain = self._link.panel
        if explain is None or explain.scan.layer == self._layer:
            return
        picker = explain.scan
        found = (picker.itemData(i) for i in range(picker.count()))
        layer = next((layer for layer in found if layer == self._layer), None)
        if layer is not None:
            picker.choose(layer)

    def _hide_maps_of(self, scan: LoadedScan) -> None:
        """Other maps of the last scan do not lie over the next one; the eye brings them back."""
        source = scan.volume.source
        for layer in self._viewer.layers:
            if is_overlay(layer) and layer != self.overlay and layer.visible:
                record = layer.metadata[OVERLAY_KEY].get("scan", {})
                if record.get("source") == source:
                    layer.visible = False

    def show_map_unless_run(self, attribution: Any) -> None:
        """Show a map of the scan, unless the overlay shows a run of the panel Explain CNN itself."""
        explain = self._link.panel
        if explain is not None and explain.result is None:
            self.show_map(attribution)

    def show_map(self, attribution: Any) -> None:
        """Show a map of the scan, in the overlay that is there or in a new one."""
        explain, layer = self._link.panel, self.layer
        if explain is None or layer is None or attribution.data.shape != layer.data.shape:
            return
        overlay, head = self.overlay, self.scan.head
        if overlay is None:
            explain.show_map(attribution, layer, head=head)
            return
        move_to(overlay, layer)
        with keeping_limits(overlay):
            explain.show_map(attribution, layer, head=head)
        if overlay == self._hidden:
            overlay.visible, self._hidden = True, None

    # --- maps that Explain CNN makes -----------------------------------------------

    def _keep_result(self) -> None:
        """Put a finished run of the shown scan into the store."""
        explain, scan, layer = self._link.panel, self.scan, self.layer
        if explain is None or scan is None or layer is None or explain.overlay_scan != layer:
            return
        result, model = explain.result, self._link.model
        known = self._loader.knows(model)
        if result is None or result is self._kept or not known or layer.data is not scan.data:
            return
        if result.request != self._link.request_or_none() or self._worker is not None:
            return
        self._kept = result
        loader = self._loader

        def keep() -> bool:
            attribution = result.attribution
            if attribution is None or attribution.partial:
                return False
            key = loader.keys(model).attribution(scan.digest, result.request, DISPLAY_AXES)
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
