"""Volumes as napari layers and back, without losing where they lie.

Scans are shown with axes (superior, anterior, right) and world coordinates
-mm: superior first on the slider, anterior up, the patient's right on the
screen's left, and one space for all scans.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_cnnvis._napari.layers.metadata import Entry, read_entry, with_entries, write_entries
from napari_cnnvis._napari.layers.one_volume import millimetres_of_unit, reduced, to_world
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.scan.volume import Volume, check_spacing, orientation_change

__all__ = [
    "ScanLayer",
    "is_affine",
    "layer_to_volume",
    "scan_of",
    "set_scan",
    "snapshot",
    "spatial_part",
    "spatial_state",
    "volume_to_layer",
]

_AXES = "SAR"
#: rows of an RAS affine in the order of the axes
_ROWS = [2, 1, 0]
#: keyword arguments that say where a layer lies
_PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


@dataclass(frozen=True, eq=False)
class ScanLayer:
    """What is known of the scan that a layer shows, or that it lies on as maps and labels do.

    Attributes
    ----------
    affine : array, shape (4, 4)
        The layer's voxels to RAS millimetres.
    orientation_known : bool
        False where the scan's file says nothing of its orientation.
    stored_orientation : str or None
        How the axes lie in the scan's file, such as "LAS".
    source : str
        The scan's file, "" if none.
    header : nibabel header or None
        Of that file.
    notes : tuple of str
        What was doubtful in the file.
    """

    affine: np.ndarray
    orientation_known: bool = True
    stored_orientation: str | None = None
    source: str = ""
    header: Any = None
    notes: tuple[str, ...] = ()


def scan_of(layer: Any) -> ScanLayer | None:
    """What is known of the scan of a layer; None for layers of other readers.

    Parameters
    ----------
    layer : napari layer, mapping or None
        A mapping is a layer's attributes, as a writer is given them.
    """
    kept = read_entry(layer, Entry.SCAN)
    if not isinstance(kept, Mapping) or not is_affine(kept.get("affine")):
        return None
    known, stored = kept.get("orientation_known", True), kept.get("stored_orientation")
    source, header, notes = kept.get("source", ""), kept.get("header"), kept.get("notes", ())
    whole = (
        isinstance(known, bool)
        and (stored is None or _is_orientation(stored))
        and isinstance(source, str)
        and (header is None or hasattr(header, "get_zooms"))
        and isinstance(notes, list | tuple)
        and all(isinstance(note, str) for note in notes)
    )
    if not whole:
        return None
    affine = np.asarray(kept["affine"], dtype=float)
    return ScanLayer(affine, known, stored, source, header, tuple(notes))


def is_affine(value: Any) -> bool:
    """Whether a value is an affine that can be inverted, shape (4, 4)."""
    try:
        array = np.asarray(value)
    except ValueError:  # lists of unlike lengths
        return False
    plain = array.shape == (4, 4) and array.dtype.kind in "iuf" and np.isfinite(array).all()
    return bool(plain and abs(np.linalg.det(array[:3, :3])) > 1e-12)


def _is_orientation(value: Any) -> bool:
    try:
        orientation_change(np.eye(4), value)
    except (AttributeError, VolumeError):
        return False
    return True


def set_scan(layer: Any, scan: ScanLayer | None) -> None:
    """Let a layer know of another scan, which it shows or lies on from now on."""
    write_entries(layer, _entry(scan))


def _entry(scan: ScanLayer | None) -> dict[Entry, Any]:
    return {Entry.SCAN: None if scan is None else dict(vars(scan))}


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
    known = ScanLayer(
        shown.affine,
        volume.orientation_known,
        shown.stored_orientation,
        volume.source,
        volume.header,
        volume.notes,
    )
    arguments = {
        "name": volume.name,
        "scale": -spacing,
        "translate": -(centre - spacing * half),
        "units": ("mm",) * 3,
        "axis_labels": tuple(_AXES),
        "rgb": False,
        "colormap": "gray",
        "rendering": "attenuated_mip",
        "attenuation": 0.5,
    }
    return shown.data, with_entries(arguments, _entry(known))


def layer_to_volume(data: Any, attributes: dict[str, Any], as_scan: bool = True) -> Volume:
    """The volume that a layer's data and attributes stand for, on the layer's own grid.

    Parameters
    ----------
    data : array-like, shape (i, j, k)
        Kept if it is float32 already; or what else `reduced` takes, such as a pyramid.
    attributes : dict
        ``name``, ``units``, ``metadata``, and what `to_world` takes of the layer. Layers of
        other readers keep their axes as they are; only their spacing is known. ``head``, if a
        head mask was chosen: the volume's ``head``, ``head_name`` and ``head_source``.
    as_scan : bool
        Refuse voxels of a size that no scan of a head has.

    Raises
    ------
    VolumeError
        If the layer is not one plain 3D image.
    """
    name = attributes.get("name", "layer")
    known, head = scan_of(attributes), attributes.get("head") or {}
    data = reduced(data, attributes)
    if known is None:
        spacing, notes = _spacing(attributes)
        affine = np.diag([*spacing, 1.0])
        if as_scan:
            unit = str((attributes.get("units") or ("mm",))[-1])
            remedy = "(layer.units, layer.scale)"
            check_spacing(affine, np.shape(data), f"The layer '{name}'", unit, remedy)
        return Volume(data, affine, name, orientation_known=False, notes=notes, **head)
    return Volume(
        data,
        known.affine,
        name,
        known.header,
        known.orientation_known,
        stored_orientation=known.stored_orientation,
        source=known.source,
        **head,
    )


def _spacing(attributes: Mapping[str, Any]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Millimetres between the voxels of a layer of another reader, and what was assumed of them."""
    spacing = np.linalg.norm(to_world(attributes)[:3, :3], axis=0)
    units = tuple(attributes.get("units") or ("mm",) * 3)[-3:]
    factors = [millimetres_of_unit(unit) for unit in units]
    if None not in factors:
        return spacing * factors, ()
    unknown = next(str(u) for u, factor in zip(units, factors, strict=True) if factor is None)
    sizes = " x ".join(f"{size:.3g}" for size in spacing)
    note = (
        f"The layer '{attributes.get('name', 'layer')}' has no unit of length ({unknown}), so its voxels are "
        f"taken to have {sizes} mm; else set layer.scale and layer.units."
    )
    return spacing * [1.0 if factor is None else factor for factor in factors], (note,)


def snapshot(layer: Any) -> tuple[Any, dict[str, Any]]:
    """A copy of a layer's voxels, and the attributes that `layer_to_volume` needs with them.

    Of a layer that is not one volume, which `layer_to_volume` refuses, nothing is copied.
    """
    names = ("name", "scale", "units", "multiscale", "rgb", "rotate", "shear")
    attributes = {name: getattr(layer, name) for name in names}
    attributes["affine"] = layer.affine.affine_matrix
    data = layer.data
    with contextlib.suppress(VolumeError):
        data = np.array(reduced(data, attributes))
        attributes |= {"multiscale": False, "rgb": False}
    return data, with_entries(attributes, _entry(scan_of(layer)))


def spatial_state(layer: Any) -> dict[str, Any]:
    """Keyword arguments that put a new 3D layer exactly where `layer` is, and on its scan."""
    if layer.ndim == 3:
        state = {name: getattr(layer, name) for name in _PLACE}
        state["affine"] = layer.affine.affine_matrix
    else:
        matrix = to_world(layer)
        scale = np.linalg.norm(matrix[:3, :3], axis=0)
        state = {"scale": scale, "affine": matrix @ np.diag([*(1 / scale), 1.0])}
        state |= {name: getattr(layer, name)[-3:] for name in ("units", "axis_labels")}
    return with_entries(state, _entry(scan_of(layer)))


def spatial_part(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a layer's keyword arguments that say where it lies, and on which scan."""
    return {name: arguments[name] for name in (*_PLACE, "metadata") if name in arguments}
