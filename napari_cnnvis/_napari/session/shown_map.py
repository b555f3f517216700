"""The overlay of the last map, and what is hidden of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_cnnvis._napari.layers.maps import map_of, overlay_arguments, style_overlay
from napari_cnnvis._napari.widgets.preferences import preference

__all__ = ["ShownMap"]


class ShownMap:
    """Shows one map after the other in the same layer, until another run begins.

    Parameters
    ----------
    viewer : napari.viewer.Viewer

    Attributes
    ----------
    scan : layer or None
        The scan that the last map is of.
    head : array or None
        The head's voxels.
    head_only : bool
        Whether what is outside the head is hidden.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._overlay: Any = None
        self._shown: Any = None
        self.scan: Any = None
        self.head: np.ndarray | None = None
        self.head_only = bool(preference("hide_outside"))

    @property
    def layer(self) -> Any:
        """The layer that shows the map, or None if there is none (any more)."""
        return self._overlay if self._overlay in self._viewer.layers else None

    def begin(self, scan: Any) -> None:
        """A run of this scan begins: its map gets a layer of its own."""
        self._overlay = self._shown = None
        self.scan = scan

    def take(self, scan: Any, head: np.ndarray | None) -> None:
        """A map of this scan that was made elsewhere is to be shown."""
        if scan != self.scan:
            self._overlay = None
        self.scan, self.head = scan, head

    def take_head(self, head: np.ndarray) -> None:
        """The map's scan has another head now."""
        self.head = head
        self.hide_outside(self.head_only)

    def scan_replaced(self) -> None:
        """Another scan has taken the place of the last one in the same layer."""
        self._shown = self.head = None

    def show(self, attribution: Any) -> None:
        """Show a map of the scan, in a new layer if there is none (any more)."""
        self._shown = attribution
        data = attribution.data
        if self.head_only and self.head is not None:
            data = np.where(self.head, data, np.float32(0))
        if self.layer is not None:
            style_overlay(self._overlay, attribution, data)
            return
        for other in self._viewer.layers:
            if map_of(other) is not None:
                other.visible = False  # one map at a time; the eye brings it back
        arguments = overlay_arguments(attribution, self.scan, data)
        self._overlay = self._viewer.add_image(data, **arguments)
        self._overlay.colorbar.visible = True

    def hide_outside(self, wanted: bool) -> None:
        """Hide what is outside the head, or show it again."""
        self.head_only = wanted
        if self._shown is not None and self.layer is not None:
            self.show(self._shown)
