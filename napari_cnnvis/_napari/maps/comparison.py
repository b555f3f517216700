"""Several maps of one scan: shared limits, a grid, a difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_cnnvis._napari.layers.maps import map_of, overlay_arguments
from napari_cnnvis._napari.layers.metadata import as_aside
from napari_cnnvis._napari.layers.place import affine_of
from napari_cnnvis.errors import MethodError

__all__ = ["GridOfMaps", "SharedLimits", "difference", "grid_of"]


class SharedLimits:
    """Keeps the contrast limits of several maps alike, for as long as it is connected.

    The upper limit is shared; the lower one is 0, or its negative for signed maps.
    """

    def __init__(self, maps: Sequence[Any]) -> None:
        self._maps = list(maps)
        self._busy = False
        peak = max(float(layer.contrast_limits[1]) for layer in self._maps)
        for layer in self._maps:
            layer.events.contrast_limits.connect(self._on_limits)
        self._set(peak, None)

    def disconnect(self) -> None:
        """Let each map have its own limits again; they stay as they are."""
        for layer in self._maps:
            layer.events.contrast_limits.disconnect(self._on_limits)
        self._maps = []

    def _on_limits(self, event: Any) -> None:
        if not self._busy:
            low, high = event.source.contrast_limits
            signed = event.source.contrast_limits_range[0] < 0
            self._set(float(high), None if signed else float(low))

    def _set(self, high: float, low: float | None) -> None:
        self._busy = True
        try:
            for layer in self._maps:
                signed = layer.contrast_limits_range[0] < 0
                bottom = -high if signed else (layer.contrast_limits[0] if low is None else low)
                first, last = layer.contrast_limits_range
                layer.contrast_limits_range = (min(first, bottom), max(last, high))
                layer.contrast_limits = (bottom, high)
        finally:
            self._busy = False


class GridOfMaps:
    """Shows each map on its own copy of the scan, side by side, with one camera for all.

    The copies share the scan's data. Leaving the grid takes them away.
    """

    def __init__(self, viewer: Any, scan: Any, maps: Sequence[Any]) -> None:
        self._viewer = viewer
        self._copies: list[Any] = []
        layers = viewer.layers
        for number, one in enumerate(maps):
            if number == 0:
                below = scan
            else:
                state = scan.as_layer_data_tuple()[1]
                state["name"] = f"{scan.name} ({number + 1})"
                below = viewer.add_image(scan.data, **as_aside(state))
                self._copies.append(below)
            layers.move(layers.index(below), len(layers))
            layers.move(layers.index(one), len(layers))
            below.visible = one.visible = True
        grid = grid_of(viewer)
        grid.stride = 2
        grid.shape = (-1, -1)
        grid.enabled = True

    def leave(self) -> None:
        """Back to one picture."""
        grid_of(self._viewer).enabled = False
        self._viewer.reset_view()
        for copy in self._copies:
            if copy in self._viewer.layers:
                self._viewer.layers.remove(copy)
        self._copies = []


def grid_of(viewer: Any) -> Any:
    """The viewer's grid, wherever this napari keeps it."""
    return viewer.canvas.grid if hasattr(viewer, "canvas") else viewer.grid  # before 0.9


def difference(a: Any, b: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """Data and keyword arguments of a layer that shows map `a` minus map `b`.

    Raises
    ------
    MethodError
        If they are not of one grid.
    """
    same = a.data.shape == b.data.shape and np.allclose(a.scale, b.scale)
    if not same or not np.allclose(a.translate, b.translate):
        raise MethodError(
            f"'{a.name}' and '{b.name}' are maps of different scans; choose two of the same scan."
        )
    from napari_cnnvis.explain.attribution import Attribution
    from napari_cnnvis.scan.volume import Volume

    first, second = map_of(a), map_of(b)
    record = {
        "method": "Difference",
        "class_name": f"{a.name} − {b.name}",
        "of": [first.provenance, second.provenance],
        "scan": first.scan,
        "versions": first.provenance.get("versions", {}),
    }
    volume = Volume(first.values - second.values, affine_of(a), a.name)
    made = Attribution(volume.data, volume.affine, record, volume)
    return volume.data, overlay_arguments(made, a)
