"""Label volumes to measure a map in that come with the samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis._napari.layers.scans import spatial_part, volume_to_layer
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.sample_data import sample_path
from napari_cnnvis.scan.files import read_volume

__all__ = ["add_sample_regions", "sample_regions"]


def sample_regions(layer: Any) -> Path | None:
    """The label volume that comes with the sample scan an overlay was made of, if one does."""
    map_ = map_of(layer)
    name = "" if map_ is None else str(map_.scan.get("name") or "")
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
    return viewer.add_labels(
        np.round(data).astype(np.uint8),
        **spatial_part(state),
        name=state["name"],
        features={"index": [1], "name": ["changed by the simulation"]},
        opacity=0.4,
    )
