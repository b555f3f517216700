"""Atlases from files as Labels layers that lie on a scan, with the names and colours of regions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap

from napari_cnnvis._napari.layers.scans import layer_to_volume, spatial_state
from napari_cnnvis._napari.widgets.layer_picker import is_scan
from napari_cnnvis.atlas.lookup_tables import LookupTable
from napari_cnnvis.atlas.rois import Rois, read_rois, rois_on
from napari_cnnvis.errors import VolumeError

__all__ = ["ENDINGS", "add_atlas", "atlas_on", "ground_of", "name_regions"]

#: of the files that are offered as atlases
ENDINGS = "*.nii *.nii.gz *.mgz *.mgh *.img *.hdr *.mnc"


def ground_of(viewer: Any, view: Any) -> Any:
    """The layer that an atlas is laid on: the map that is looked at, or else a scan; or None."""
    if view is not None:
        return view.layer
    return next((layer for layer in reversed(viewer.layers) if is_scan(layer)), None)


def atlas_on(path: str, table: str | None, data: np.ndarray, attributes: dict[str, Any]) -> Rois:
    """The regions of a file on a layer's voxels; to be called in a worker.

    Parameters
    ----------
    path, table : str
        See `read_rois`.
    data, attributes
        Of the layer, as `layer_to_volume` takes them.

    Raises
    ------
    VolumeError
        If it cannot be read, or does not lie on the layer.
    """
    import pandas  # noqa: F401 - the layer's table needs it; half a second, here not on the main thread

    return rois_on(read_rois(path, table), layer_to_volume(data, attributes))


def add_atlas(viewer: Any, rois: Rois, ground: Any) -> Any:
    """Add regions that have the voxels of the layer `ground` as a Labels layer, exactly on it."""
    name = Path(rois.source).name
    for ending in (".gz", ".nii", ".mgz", ".mgh", ".img", ".hdr", ".mnc"):
        name = name.removesuffix(ending)
    return viewer.add_labels(
        rois.labels,
        **spatial_state(ground),
        name=name,
        opacity=0.4,
        features=_features(rois.names),
        colormap=_colormap(rois.colours),
    )


def name_regions(layer: Labels, table: LookupTable) -> int:
    """Call the regions of a Labels layer as a table does; gives how many got a name.

    Raises
    ------
    VolumeError
        If the table names none of its labels.
    """
    present = [int(label) for label in np.unique(np.asarray(layer.data)) if label != 0]
    names = {label: table.names[label] for label in present if label in table.names}
    if not names:
        raise VolumeError(
            f"{Path(table.source).name} has no names for the labels of '{layer.name}'; choose the table "
            "of this atlas."
        )
    layer.features = _features(names)
    colours = {label: table.colours[label] for label in names if label in table.colours}
    if colours:
        missing = {label: layer.get_color(label) for label in present if label not in colours}
        layer.colormap = _colormap(colours, missing)
    return len(names)


def _features(names: Mapping[int, str]) -> dict[str, list[Any]]:
    """The table from which napari's status bar and `RegionsLayer` take names."""
    return {"index": [0, *names], "name": ["", *names.values()]}


def _colormap(
    colours: Mapping[int, tuple[int, int, int]], others: Mapping[int, Any] | None = None
) -> DirectLabelColormap:
    table: dict[int | None, Any] = {None: (0.6, 0.6, 0.6, 1.0), 0: (0, 0, 0, 0)}
    table |= {label: (*(c / 255 for c in rgb), 1.0) for label, rgb in colours.items()}
    table |= {label: rgba for label, rgba in (others or {}).items() if rgba is not None}
    return DirectLabelColormap(color_dict=table)
