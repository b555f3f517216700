"""How a hierarchy looks: a Labels layer of one of its cuts, and its contours, on the scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from napari.utils.colormaps import Colormap

from napari_cnnvis._napari.layers.metadata import Entry, is_aside, read_entry, with_entries
from napari_cnnvis.ucm.hierarchy import Hierarchy

__all__ = [
    "RegionsLayer",
    "contour_arguments",
    "contour_limits",
    "fits_shape",
    "hierarchy_maker",
    "is_labels",
    "label_table",
    "labels_arguments",
    "labels_of_cut",
    "regions_of",
]

#: columns of a features table that hold names, the first that there is
_NAME_COLUMNS = ("name", "names", "region", "label name", "structure", "label")


@dataclass(frozen=True, eq=False)
class RegionsLayer:
    """What a layer shows that are regions: labels, or the contours between them.

    Attributes
    ----------
    contours : bool
        Whether they are an image of contours; else they are labels.
    hierarchy : Hierarchy or None
        What the labels are a cut of, if they are; of their shape.
    features : table or None
        What is known of each label.
    """

    contours: bool = False
    hierarchy: Hierarchy | None = None
    features: Any = None

    @cached_property
    def names(self) -> dict[int, str]:
        """Names of labels, from the features.

        A column "index" says which label a row is about; without one, the first row is
        about label 0. Names are in a column such as "name", or in the first with text.
        """
        table = self.features
        if table is None:
            return {}
        columns = {str(c).strip().lower(): c for c in table.columns}
        texts = {
            low: c
            for low, c in columns.items()
            if low != "index" and table[c].map(lambda value: isinstance(value, str)).any()
        }
        if not texts:
            return {}
        named = next((low for low in _NAME_COLUMNS if low in texts), next(iter(texts)))
        labels = table[columns["index"]] if "index" in columns else range(len(table))
        pairs = zip(labels, table[texts[named]], strict=True)
        return {
            int(label): str(name)
            for label, name in pairs
            if isinstance(name, str) and name and np.isfinite(label)
        }


def regions_of(layer: Any) -> RegionsLayer | None:
    """The regions that a layer shows; None for all other layers, and for no layer.

    Any 3D Labels layer shows regions, but for marks of this plugin.
    """
    kept = read_entry(layer, Entry.REGIONS)
    kept = kept if isinstance(kept, Mapping) else {}
    if isinstance(layer, Image) and kept.get("contours") is True:
        return RegionsLayer(contours=True)
    if not isinstance(layer, Labels) or layer.ndim != 3 or layer.multiscale or is_aside(layer):
        return None
    hierarchy = kept.get("hierarchy")
    same = isinstance(hierarchy, Hierarchy) and hierarchy.leaves.shape == layer.data.shape
    return RegionsLayer(hierarchy=hierarchy if same else None, features=layer.features)


def is_labels(layer: Any) -> bool:
    """Whether a layer shows regions by their labels."""
    regions = regions_of(layer)
    return regions is not None and not regions.contours


def labels_of_cut(hierarchy: Hierarchy, node_of_leaf: np.ndarray) -> np.ndarray:
    """Label volume (int32) of a cut: node + 1, so that a region keeps its label on every cut."""
    return label_table(node_of_leaf)[hierarchy.leaves]


def label_table(node_of_leaf: np.ndarray) -> np.ndarray:
    """The label of each value of ``hierarchy.leaves``, int32; 0 for background."""
    return np.concatenate([[0], node_of_leaf + 1]).astype(np.int32)


def labels_arguments(hierarchy: Hierarchy, place: dict[str, Any], name: str) -> dict[str, Any]:
    """Keyword arguments of the Labels layer of a hierarchy; `place` is its scan's spatial state."""
    arguments = {**place, "name": name, "opacity": 0.4}
    return with_entries(arguments, {Entry.REGIONS: {"hierarchy": hierarchy}})


def contour_arguments(contours: np.ndarray, place: dict[str, Any], name: str) -> dict[str, Any]:
    """Keyword arguments of the image layer of a contour map: the higher, the brighter.

    What lies below the lower contrast limit is transparent, so that it says which
    cut's contours are shown.
    """
    steps = np.linspace(0, 1, 64)
    ends = [(0.0, 0.55, 0.85), (0.2, 0.95, 0.85), (1.0, 1.0, 0.6)]
    rgb = [np.interp(steps, [0, 0.4, 1], channel) for channel in np.array(ends).T]
    table = np.stack([*rgb, 0.4 + 0.45 * steps], axis=1)
    arguments = {
        **place,
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
    return with_entries(arguments, {Entry.REGIONS: {"contours": True}})


def contour_limits(contours: np.ndarray, altitude: float) -> tuple[float, float]:
    """Contrast limits that show the contours of the cut at an altitude."""
    end = np.float32(np.inf)
    rounded = np.float32(altitude)
    if rounded < altitude:  # contours are rounded up
        rounded = np.nextafter(rounded, end)
    low = float(np.nextafter(rounded, end))
    high = float(contours.max())
    return low, high if high > low else low + max(abs(low), 1.0)


def fits_shape(layer: Any, shape: tuple[int, ...]) -> bool:
    """Whether a layer shows regions by their labels and has this shape."""
    return is_labels(layer) and layer.data.shape == shape


def hierarchy_maker(layer: Any) -> Callable[[], Hierarchy]:
    """What gives the hierarchy of a Labels layer, to be called in a worker.

    A layer that carries a hierarchy gives that one. Any other is copied now and
    becomes a hierarchy of one level, 0 being background.
    """
    regions = regions_of(layer)
    if regions is not None and regions.hierarchy is not None:
        return lambda: regions.hierarchy
    labels = np.array(layer.data)
    return lambda: Hierarchy.from_levels([labels], background=0)
