"""How a hierarchy looks: a Labels layer of one of its cuts, and its contours, on the scan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import Colormap

from napari_cnnvis._napari.layers.scans import METADATA_KEY
from napari_cnnvis.ucm.hierarchy import Hierarchy

__all__ = [
    "HIERARCHY_KEY",
    "contour_arguments",
    "contour_limits",
    "fits_shape",
    "hierarchy_maker",
    "is_contours",
    "label_table",
    "labels_arguments",
    "labels_of_cut",
]

#: metadata entry of a Labels layer that holds the Hierarchy it shows
HIERARCHY_KEY = "hierarchy"
#: metadata entry that marks contours
CONTOURS_KEY = "contours"


def labels_of_cut(hierarchy: Hierarchy, node_of_leaf: np.ndarray) -> np.ndarray:
    """Label volume (int32) of a cut: node + 1, so that a region keeps its label on every cut."""
    return label_table(node_of_leaf)[hierarchy.leaves]


def label_table(node_of_leaf: np.ndarray) -> np.ndarray:
    """The label of each value of ``hierarchy.leaves``, int32; 0 for background."""
    return np.concatenate([[0], node_of_leaf + 1]).astype(np.int32)


def labels_arguments(hierarchy: Hierarchy, place: dict[str, Any], name: str) -> dict[str, Any]:
    """Keyword arguments of the Labels layer of a hierarchy; `place` is its scan's spatial state."""
    return {
        **place,
        "metadata": _metadata(place) | {HIERARCHY_KEY: hierarchy},
        "name": name,
        "opacity": 0.4,
    }


def contour_arguments(contours: np.ndarray, place: dict[str, Any], name: str) -> dict[str, Any]:
    """Keyword arguments of the image layer of a contour map: the higher, the brighter.

    What lies below the lower contrast limit is transparent, so that it says which
    cut's contours are shown.
    """
    steps = np.linspace(0, 1, 64)
    ends = [(0.0, 0.55, 0.85), (0.2, 0.95, 0.85), (1.0, 1.0, 0.6)]
    rgb = [np.interp(steps, [0, 0.4, 1], channel) for channel in np.array(ends).T]
    table = np.stack([*rgb, 0.4 + 0.45 * steps], axis=1)
    return {
        **place,
        "metadata": _metadata(place) | {CONTOURS_KEY: True},
        "name": name,
        "rgb": False,
        "colormap": Colormap(table, name="CNN Vis contours", low_color="transparent"),
        "contrast_limits": contour_limits(contours, 0.0),
        "gamma": 0.6,
        "rendering": "attenuated_mip",
        "attenuation": 0.5,
        "blending": "translucent_no_depth",
        "interpolation2d": "nearest",
    }


def contour_limits(contours: np.ndarray, altitude: float) -> tuple[float, float]:
    """Contrast limits that show the contours of the cut at an altitude."""
    end = np.float32(np.inf)
    rounded = np.float32(altitude)
    if rounded < altitude:  # contours are rounded up
        rounded = np.nextafter(rounded, end)
    low = float(np.nextafter(rounded, end))
    high = float(contours.max())
    return low, high if high > low else low + max(abs(low), 1.0)


def is_contours(layer: Any) -> bool:
    """Whether a layer shows the contours of a hierarchy."""
    return CONTOURS_KEY in layer.metadata


def fits_shape(layer: Any, shape: tuple[int, ...]) -> bool:
    """Whether a layer is a Labels layer of one resolution and this shape."""
    return isinstance(layer, Labels) and not layer.multiscale and layer.data.shape == shape


def hierarchy_maker(layer: Any) -> Callable[[], Hierarchy]:
    """What gives the hierarchy of a Labels layer, to be called in a worker.

    A layer that carries a hierarchy gives that one. Any other is copied now and
    becomes a hierarchy of one level, 0 being background.
    """
    kept = layer.metadata.get(HIERARCHY_KEY)
    if isinstance(kept, Hierarchy) and kept.leaves.shape == layer.data.shape:
        return lambda: kept
    labels = np.array(layer.data)
    return lambda: Hierarchy.from_levels([labels], background=0)


def _metadata(place: dict[str, Any]) -> dict[str, Any]:
    return {METADATA_KEY: place["metadata"].get(METADATA_KEY, {})}
