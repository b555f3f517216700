"""How an attribution looks: a colour-mapped overlay that is transparent where there is nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.utils.colormaps import Colormap

from napari_cnnvis._napari.layers.scans import METADATA_KEY, spatial_state
from napari_cnnvis.figure.colours import colour_table, contrast_limits

__all__ = [
    "CELLS_KEY",
    "OVERLAY_KEY",
    "RAW_KEY",
    "REGIONS_KEY",
    "contrast_limits",
    "is_overlay",
    "map_style",
    "overlay_arguments",
    "raw_map",
    "style_overlay",
]

#: metadata entry that marks an overlay and holds its provenance
OVERLAY_KEY = "attribution"
#: metadata entry that holds the scores of the regions or boxes that were occluded, if any were
REGIONS_KEY = "region scores"
#: metadata entry that holds the layer's own cells, and what gives each voxel its nearest one
CELLS_KEY = "native cells"
#: metadata entry that holds the whole map while small clusters are hidden
RAW_KEY = "raw map"


def colormap(signed: bool) -> Colormap:
    """Opacity rises from zero: at the low end, or from the middle for signed maps."""
    if signed:
        return Colormap(colour_table(signed=True), name="CNN Vis signed")
    return Colormap(colour_table(signed=False), name="CNN Vis", low_color="transparent")


def overlay_arguments(
    attribution: Any, layer: Any, shown: np.ndarray | None = None
) -> dict[str, Any]:
    """Keyword arguments of the layer that shows an attribution of `layer`, exactly on it.

    `shown` is what is displayed of it; ``attribution.data`` by default.
    """
    state = spatial_state(layer)
    style = map_style(attribution, attribution.data if shown is None else shown)
    place = {METADATA_KEY: state["metadata"].get(METADATA_KEY, {})}
    return {**state, **style, "metadata": {**place, **style["metadata"]}}


def map_style(attribution: Any, shown: np.ndarray) -> dict[str, Any]:
    """Keyword arguments that make a layer look as a map, wherever it lies."""
    limits = contrast_limits(shown)
    return {
        "metadata": _record(attribution),
        "name": attribution.name,
        "rgb": False,
        "colormap": colormap(limits[0] < 0),
        "contrast_limits": limits,
        "rendering": "mip",
        "blending": "translucent_no_depth",
        "interpolation2d": "linear",
    }


def raw_map(layer: Any) -> np.ndarray:
    """A map's own values, also while some of it is hidden."""
    return np.asarray(layer.metadata.get(RAW_KEY, layer.data))


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
    cells = None
    if attribution.native is not None and attribution.nearest is not None:
        cells = {"cells": attribution.native, "nearest": attribution.nearest}
        cells |= attribution.cell_grid or {}
    return {
        OVERLAY_KEY: {**attribution.provenance, "partial": attribution.partial},
        REGIONS_KEY: attribution.regions,
        CELLS_KEY: cells,
    }
