"""How an attribution looks: a colour-mapped overlay that is transparent where there is nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Image
from napari.utils.colormaps import Colormap

from napari_cnnvis._napari.layers.metadata import Entry, read_entry, with_entries, write_entries
from napari_cnnvis._napari.layers.scans import is_affine, spatial_state
from napari_cnnvis.figure.colours import colour_table, contrast_limits

__all__ = [
    "MapCells",
    "MapLayer",
    "colormap",
    "contrast_limits",
    "keep_trust",
    "keep_whole",
    "map_arguments",
    "map_of",
    "mark_as_map",
    "overlay_arguments",
    "style_overlay",
    "whole_map",
]


@dataclass(frozen=True, eq=False)
class MapCells:
    """The cells of the target layer that a map was made on.

    Attributes
    ----------
    values : array, shape (a, b, c)
        Along the axes of the network's input.
    nearest : array or callable
        The map with the value of each voxel's nearest cell.
    affine : array, shape (4, 4), or None
        The voxels of the network's input to RAS mm.
    shape : tuple of int or None
        Of the network's input.
    grid : LayerGrid or None
        Where the cells lie on it, and how far they see.
    alignment : str
        How the map was spread from the cells.
    """

    values: np.ndarray
    nearest: np.ndarray | Callable[[], np.ndarray]
    affine: np.ndarray | None = None
    shape: tuple[int, ...] | None = None
    grid: Any = None
    alignment: str = "stretch"


@dataclass(frozen=True, eq=False)
class MapLayer:
    """What a layer shows that is a map.

    Attributes
    ----------
    provenance : dict
        The map's record, and whether it is "partial".
    values : array, shape (i, j, k)
        The map's own values, also while some of it is hidden.
    limits : (float, float)
        The values that the ends of the colours stand for.
    cells : MapCells or None
    scores : OcclusionScores or None
        Of the regions or boxes that were occluded, if any were.
    trust : TrustReport or None
        Of the map's last test; the map may be another one since.
    """

    provenance: dict[str, Any]
    values: np.ndarray
    limits: tuple[float, float]
    cells: MapCells | None = None
    scores: Any = None
    trust: Any = None

    @property
    def scan(self) -> Mapping[str, Any]:
        """What the record says of the scan: "name", "source" and others; empty if nothing."""
        scan = self.provenance.get("scan")
        return scan if isinstance(scan, Mapping) else {}

    @property
    def hierarchy(self) -> Any:
        """The hierarchy whose regions were occluded, or None."""
        return getattr(self.scores, "hierarchy", None)


def map_of(layer: Any) -> MapLayer | None:
    """The map that a layer shows; None for all other layers, and for no layer."""
    kept = read_entry(layer, Entry.MAP)
    if not isinstance(layer, Image) or layer.multiscale or not isinstance(kept, Mapping):
        return None
    provenance, scores = kept.get("provenance"), kept.get("scores")
    cells = None if kept.get("cells") is None else _cells_of(kept["cells"])
    whole = (
        isinstance(provenance, dict)
        and isinstance(provenance.get("method"), str)
        and (scores is None or hasattr(scores, "baselines"))
        and (cells is not None or kept.get("cells") is None)
    )
    if not whole:
        return None
    low, high = layer.contrast_limits
    trust = read_entry(layer, Entry.TRUST)
    return MapLayer(
        provenance,
        np.asarray(whole_map(layer.data, layer)),
        (float(low), float(high)),
        cells,
        scores,
        trust if hasattr(trust, "attribution") else None,
    )


def _cells_of(kept: Any) -> MapCells | None:
    if not isinstance(kept, Mapping):
        return None
    nearest, affine, shape = kept.get("nearest"), kept.get("affine"), kept.get("shape")
    values, grid = kept.get("values"), kept.get("grid")
    alignment = kept.get("alignment", "stretch")
    whole = (
        isinstance(values, np.ndarray)
        and values.ndim == 3
        and (callable(nearest) or isinstance(nearest, np.ndarray))
        and (affine is None or is_affine(affine))
        and (shape is None or _is_shape(shape))
        and (grid is None or (hasattr(grid, "start") and hasattr(grid, "step")))
        and isinstance(alignment, str)
    )
    if not whole:
        return None
    affine = None if affine is None else np.asarray(affine, dtype=float)
    shape = None if shape is None else tuple(shape)
    return MapCells(values, nearest, affine, shape, grid, alignment)


def _is_shape(value: Any) -> bool:
    plain = isinstance(value, list | tuple) and len(value) == 3
    return plain and all(isinstance(n, int) for n in value)


def whole_map(data: Any, layer: Any) -> Any:
    """All values of a layer that shows `data`: more than that where a part of a map is hidden.

    Parameters
    ----------
    data : array, shape (i, j, k)
    layer : napari layer or mapping
        A mapping is a layer's attributes, as a writer is given them.
    """
    kept = read_entry(layer, Entry.WHOLE_MAP)
    same = isinstance(kept, np.ndarray) and kept.shape == np.shape(data)
    return kept if same else data


def keep_whole(layer: Any, values: np.ndarray | None) -> None:
    """Keep all values of a map in its layer, which shows a part of them; None: it shows all."""
    if read_entry(layer, Entry.WHOLE_MAP) is not values:
        write_entries(layer, {Entry.WHOLE_MAP: values})


def keep_trust(layer: Any, report: Any) -> None:
    """Keep the report of a map's test in its layer; the map is still the same."""
    write_entries(layer, {Entry.TRUST: report}, tell=False)


def mark_as_map(layer: Any, attribution: Any) -> None:
    """Let a layer know which map it shows; a report on an earlier one stays."""
    write_entries(layer, _entry(attribution))


def _entry(attribution: Any) -> dict[Entry, Any]:
    cells = None
    if attribution.native is not None and attribution.nearest is not None:
        cells = {"values": attribution.native, "nearest": attribution.nearest}
        cells |= attribution.cell_grid or {}
    provenance = {**attribution.provenance, "partial": attribution.partial}
    return {Entry.MAP: {"provenance": provenance, "scores": attribution.regions, "cells": cells}}


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
    return map_arguments(spatial_state(layer), attribution, shown)


def map_arguments(
    place: Mapping[str, Any], attribution: Any, shown: np.ndarray | None = None
) -> dict[str, Any]:
    """Keyword arguments of the layer that shows an attribution somewhere.

    `place` are a layer's keyword arguments that say where; `shown` is what is displayed of
    the attribution, ``attribution.data`` by default.
    """
    limits = contrast_limits(attribution.data if shown is None else shown)
    style = {
        "name": attribution.name,
        "rgb": False,
        "colormap": colormap(limits[0] < 0),
        "contrast_limits": limits,
        "rendering": "mip",
        "blending": "translucent_no_depth",
        "interpolation2d": "linear",
    }
    return with_entries({**place, **style}, _entry(attribution))


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
    mark_as_map(layer, attribution)
