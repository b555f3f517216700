"""Label volumes to measure a map in: their names, and those that come with the samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Labels

from napari_cnnvis._napari.inspect.marks import MARK_KEY
from napari_cnnvis._napari.layers.maps import OVERLAY_KEY
from napari_cnnvis._napari.layers.scans import volume_to_layer
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.sample_data import sample_path
from napari_cnnvis.scan.files import read_volume

__all__ = ["add_sample_regions", "is_regions", "names_of", "sample_regions"]

#: columns of a features table that hold names, the first that there is
_NAME_COLUMNS = ("name", "names", "region", "label name", "structure", "label")


def is_regions(layer: Any) -> bool:
    """Whether a layer is a 3D Labels layer that is not one of our marks."""
    return (
        isinstance(layer, Labels)
        and layer.ndim == 3
        and not layer.multiscale
        and MARK_KEY not in layer.metadata
    )


def names_of(layer: Any) -> dict[int, str]:
    """Names of a Labels layer's labels, from its features.

    A column "index" says which label a row is about; without one, the first row is
    about label 0. Names are in a column such as "name", or in the first with text.
    """
    table = layer.features
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


def sample_regions(layer: Any) -> Path | None:
    """The label volume that comes with the sample scan an overlay was made of, if one does."""
    scan = (layer.metadata.get(OVERLAY_KEY) or {}).get("scan") or {}
    name = str(scan.get("name") or "")
    if not name or "/" in name or "\\" in name:
        return None
    try:
        return sample_path(f"{name}_changed.nii.gz")
    except VolumeError:
        return None


def add_sample_regions(viewer: Any, path: Path) -> Any:
    """Add a sample's label volume as a layer.

    Raises
    ------
    VolumeError
        If it cannot be read.
    """
    data, state = volume_to_layer(read_volume(path))
    kept = ("name", "scale", "translate", "units", "axis_labels", "metadata")
    return viewer.add_labels(
        np.round(data).astype(np.uint8),
        **{key: state[key] for key in kept},
        features={"index": [1], "name": ["changed by the simulation"]},
        opacity=0.4,
    )
