"""How an attribution looks: a colour-mapped overlay that is transparent where there is nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.utils.colormaps import Colormap

from napari_cnnvis._napari.layers import METADATA_KEY, spatial_state

__all__ = [
    "OVERLAY_KEY",
    "REGIONS_KEY",
    "contrast_limits",
    "is_overlay",
    "overlay_arguments",
    "style_overlay",
]

#: metadata entry that marks an overlay and holds its provenance
OVERLAY_KEY = "attribution"
#: metadata entry that holds the scores of the regions or boxes that were occluded, if any were
REGIONS_KEY = "region scores"
#: ends of a colour bar, up to a power of ten, near which napari puts labelled ticks
_ROUND = (1, 1.5, 2, 3, 4, 5, 6, 10)
_STEPS = np.linspace(0, 1, 64)


def _ramp(colours: list[tuple[float, float, float]], alpha: np.ndarray) -> np.ndarray:
    """RGBA table (64, 4) through `colours`, with the given opacity."""
    stops = np.linspace(0, 1, len(colours))
    rgb = np.stack([np.interp(_STEPS, stops, c) for c in np.array(colours).T], axis=1)
    return np.column_stack([rgb, alpha])


_WARM = [(0.45, 0.0, 0.05), (0.85, 0.15, 0.05), (1.0, 0.55, 0.0), (1.0, 0.85, 0.25), (1, 1, 0.8)]
_COLD_TO_WARM = [
    (0.65, 0.95, 1.0),
    (0.0, 0.55, 1.0),
    (0.1, 0.1, 0.75),
    (0.5, 0.0, 0.25),
    (1.0, 0.35, 0.0),
    (1.0, 0.9, 0.35),
]


def colormap(signed: bool) -> Colormap:
    """Opacity rises from zero: at the low end, or from the middle for signed maps."""
    if signed:
        away = np.abs(2 * _STEPS - 1)
        table = _ramp(_COLD_TO_WARM, 0.9 * np.clip(1.6 * away - 0.1, 0, 1))
        return Colormap(table, name="CNN Vis signed")
    table = _ramp(_WARM, 0.9 * np.clip(1.6 * _STEPS, 0, 1))
    return Colormap(table, name="CNN Vis", low_color="transparent")


def contrast_limits(data: np.ndarray) -> tuple[float, float]:
    """(0, m), or (-m, m) for a signed map.

    m is the 99.9th percentile of the absolute values, rounded up to a number that
    the colour bar can label.
    """
    size = np.abs(data[data != 0])
    peak = float(np.percentile(size, 99.9)) if size.size else 1.0
    magnitude = 10.0 ** np.floor(np.log10(peak))
    peak = magnitude * next(n for n in _ROUND if n >= peak / magnitude * (1 - 1e-6))
    return (-peak if (data < 0).any() else 0.0, peak)


def overlay_arguments(
    attribution: Any, layer: Any, shown: np.ndarray | None = None
) -> dict[str, Any]:
    """Keyword arguments of the layer that shows an attribution of `layer`, exactly on it.

    `shown` is what is displayed of it; ``attribution.data`` by default.
    """
    state = spatial_state(layer)
    state["metadata"] = {
        **{METADATA_KEY: state["metadata"].get(METADATA_KEY, {})},
        **_record(attribution),
    }
    limits = contrast_limits(attribution.data if shown is None else shown)
    return {
        **state,
        "name": attribution.name,
        "rgb": False,
        "colormap": colormap(limits[0] < 0),
        "contrast_limits": limits,
        "rendering": "mip",
        "blending": "translucent_no_depth",
        "interpolation2d": "linear",
    }


def is_overlay(layer: Any) -> bool:
    """Whether a layer shows an attribution."""
    return OVERLAY_KEY in layer.metadata


def style_overlay(layer: Any, attribution: Any, shown: np.ndarray | None = None) -> None:
    """Show another attribution of the same scan in a layer that is already there."""
    shown = attribution.data if shown is None else shown
    limits = contrast_limits(shown)
    layer.data = shown
    if (limits[0] < 0) != (layer.contrast_limits_range[0] < 0):
        layer.colormap = colormap(limits[0] < 0)
    if tuple(layer.contrast_limits_range) != limits:
        layer.contrast_limits_range = limits
        layer.contrast_limits = limits
    layer.name = attribution.name
    layer.metadata = {**layer.metadata, **_record(attribution)}


def _record(attribution: Any) -> dict[str, Any]:
    return {OVERLAY_KEY: attribution.provenance, REGIONS_KEY: attribution.regions}
