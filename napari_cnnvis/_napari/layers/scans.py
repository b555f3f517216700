"""Volumes as napari layers and back, without losing where they lie.

Scans are shown with axes (superior, anterior, right) and world coordinates
-mm: superior first on the slider, anterior up, the patient's right on the
screen's left, and one space for all scans.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.scan.volume import Volume, check_spacing

__all__ = ["METADATA_KEY", "layer_to_volume", "snapshot", "spatial_state", "volume_to_layer"]

METADATA_KEY = "napari_cnnvis"
_AXES = "SAR"
#: rows of an RAS affine in the order of the axes
_ROWS = [2, 1, 0]
#: millimetres of the units of other readers' layers; others, such as pixels, count as mm
_MILLIMETRES = {
    **dict.fromkeys(("micrometer", "micron", "um", "µm"), 0.001),
    **dict.fromkeys(("nanometer", "nm"), 1e-6),
    **dict.fromkeys(("centimeter", "cm"), 10.0),
    **dict.fromkeys(("meter", "m"), 1000.0),
}


def volume_to_layer(volume: Volume) -> tuple[np.ndarray, dict[str, Any]]:
    """Data and keyword arguments of the image layer that shows a volume.

    Oblique rotation is left out of the display (napari's 2D slices ignore it)
    and kept in the metadata, for the model and for saving. The centre of the
    volume stays where it is.
    """
    shown = volume.reoriented(_AXES, remember=True)
    spacing = np.array(shown.spacing)
    half = (np.array(shown.shape) - 1) / 2
    centre = (shown.affine @ [*half, 1])[_ROWS]
    return shown.data, {
        "name": volume.name,
        "scale": -spacing,
        "translate": -(centre - spacing * half),
        "units": ("mm",) * 3,
        "axis_labels": tuple(_AXES),
        "rgb": False,
        "colormap": "gray",
        "rendering": "attenuated_mip",
        "attenuation": 0.5,
        "metadata": {
            METADATA_KEY: {
                "affine": shown.affine,
                "stored_orientation": shown.stored_orientation,
                "source": volume.source,
                "orientation_known": volume.orientation_known,
                "header": volume.header,
                "notes": volume.notes,
            }
        },
    }


def layer_to_volume(data: Any, attributes: dict[str, Any], as_scan: bool = True) -> Volume:
    """The volume that a layer's data and attributes stand for, on the layer's own grid.

    Parameters
    ----------
    data : array-like, shape (i, j, k)
        Kept if it is float32 already.
    attributes : dict
        ``name``, ``scale``, ``units`` and ``metadata`` of the layer. Layers of other
        readers keep their axes as they are; only their spacing is known.
    as_scan : bool
        Refuse voxels of a size that no scan of a head has.

    Raises
    ------
    VolumeError
        If the layer is not one plain 3D image.
    """
    name = attributes.get("name", "layer")
    if isinstance(data, list | tuple) or attributes.get("multiscale"):
        raise VolumeError(f"'{name}' is a multi-scale image; open the scan at one resolution.")
    if attributes.get("rgb"):
        raise VolumeError(f"'{name}' is a colour image; a volume of plain intensities is needed.")
    if np.ndim(data) != 3:
        raise VolumeError(
            f"'{name}' has {np.ndim(data)} dimensions; choose a layer with one 3D volume."
        )
    known = (attributes.get("metadata") or {}).get(METADATA_KEY)
    if known is None or "affine" not in known:
        scale = np.abs(np.asarray(attributes.get("scale", (1, 1, 1)), dtype=float))
        units = [str(unit) for unit in attributes.get("units") or ("mm",) * 3]
        scale *= [_MILLIMETRES.get(unit, 1.0) for unit in units]
        affine = np.diag([*scale, 1.0])
        if as_scan:
            check_spacing(
                affine,
                np.shape(data),
                f"The layer '{name}'",
                units[0],
                "(layer.units, layer.scale)",
            )
        return Volume(data, affine, name, orientation_known=False)
    return Volume(
        data,
        known["affine"],
        name,
        known["header"],
        known["orientation_known"],
        stored_orientation=known.get("stored_orientation"),
        source=known.get("source", ""),
    )


def snapshot(layer: Any) -> tuple[Any, dict[str, Any]]:
    """A copy of a layer's data, and the attributes that `layer_to_volume` needs with it."""
    data = layer.data if layer.multiscale else np.array(layer.data)
    names = ("name", "scale", "units", "metadata", "multiscale", "rgb")
    return data, {name: getattr(layer, name) for name in names}


def spatial_state(layer: Any) -> dict[str, Any]:
    """Keyword arguments that put a new layer exactly where `layer` is."""
    return {
        "scale": layer.scale,
        "translate": layer.translate,
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine.affine_matrix,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
        "metadata": dict(layer.metadata),
    }
