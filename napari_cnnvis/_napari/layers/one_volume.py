"""The one volume that an image layer shows, whichever reader opened it.

A pyramid is taken at its full resolution, axes of length one that come first are left out, and
a picture in colour counts if all its colours are grey.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pint
from napari.utils.transforms import Affine

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.reading import check_fits

__all__ = ["image_problem", "millimetres_of_unit", "reduced", "shape_of", "to_world"]


def image_problem(layer: Any) -> str:
    """Why an image layer is not one volume, and what to do; "" if it is."""
    return _problem(layer.name, _shape(layer.data, layer), layer.scale)


def shape_of(layer: Any) -> tuple[int, ...]:
    """The number of voxels of a layer along the axes of its volume."""
    shape = _shape(layer.data, layer)
    return shape[-3:] if _is_volume(shape) else shape


def reduced(data: Any, attributes: Mapping[str, Any]) -> Any:
    """The voxels of the one volume in a layer's data.

    Parameters
    ----------
    data : array-like, or sequence of array-like
    attributes : mapping
        Of the layer: ``name``, and where they differ from a plain image's ``multiscale``,
        ``rgb`` and ``scale``.

    Returns
    -------
    array-like, shape (i, j, k)

    Raises
    ------
    VolumeError
        If there are several volumes or none, colours, or more voxels than the memory holds.
    """
    name = attributes.get("name", "layer")
    shape = _shape(data, attributes)
    if problem := _problem(name, shape, attributes.get("scale", (1.0,) * len(shape))):
        raise VolumeError(problem)
    full = data[0] if _is_pyramid(data, attributes) else data
    check_fits(math.prod(full.shape) * np.dtype(full.dtype).itemsize, f"'{name}'")
    if attributes.get("rgb"):
        full = np.asarray(full)
        if (full[..., :1] != full[..., :3]).any():
            raise VolumeError(
                f"'{name}' is a colour image; a volume of plain intensities is needed. Right-click it in "
                "the layer list, Split RGB, and choose one of its colours."
            )
        full = full[..., 0]
    return full[(0,) * (len(shape) - 3)] if len(shape) > 3 else full


def to_world(attributes: Any) -> np.ndarray:
    """Voxels of a layer's volume to the viewer's last three axes, shape (4, 4).

    `attributes` is a layer, or a mapping with ``scale``, ``translate``, ``rotate``, ``shear`` and
    ``affine`` where a layer has them.
    """
    owner = isinstance(attributes, Mapping)
    given = {
        name: attributes.get(name) if owner else getattr(attributes, name)
        for name in ("scale", "translate", "rotate", "shear", "affine")
    }
    affine = given.pop("affine")
    scale = given["scale"]
    ndim = 3 if scale is None else len(scale)
    own = Affine(ndim=ndim, **{name: value for name, value in given.items() if value is not None})
    matrix = own.affine_matrix
    if affine is not None:
        matrix = np.asarray(getattr(affine, "affine_matrix", affine), dtype=float) @ matrix
    return matrix[-4:, -4:]


def millimetres_of_unit(unit: Any) -> float | None:
    """Millimetres of a unit of length, None of any other, such as a pixel."""
    try:
        return float(pint.application_registry.Quantity(1.0, str(unit)).to("mm").magnitude)
    except Exception:  # pint raises many kinds on names that it does not know
        return None


def _is_pyramid(data: Any, attributes: Any) -> bool:
    owner = isinstance(attributes, Mapping)
    told = attributes.get("multiscale") if owner else attributes.multiscale
    return bool(told) or isinstance(data, list | tuple)


def _shape(data: Any, attributes: Any) -> tuple[int, ...]:
    """That of the full resolution, without colours."""
    owner = isinstance(attributes, Mapping)
    full = data[0] if _is_pyramid(data, attributes) else data
    shape = tuple(int(n) for n in np.shape(full))
    rgb = attributes.get("rgb") if owner else getattr(attributes, "rgb", False)
    return shape[:-1] if rgb else shape


def _is_volume(shape: Sequence[int]) -> bool:
    return len(shape) >= 3 and all(n == 1 for n in shape[:-3])


def _problem(name: str, shape: Sequence[int], scale: Any) -> str:
    if _is_volume(shape):
        return ""
    text = f"'{name}' has {len(shape)} dimensions"
    if len(shape) < 3:
        return f"{text}; choose a layer with one 3D volume."
    text += f" ({' x '.join(map(str, shape))}), and one 3D volume is needed"
    long = [axis for axis, n in enumerate(shape) if n > 1]
    if len(shape) == 4 and len(long) == 4 and shape[0] == min(shape):
        return (
            f"{text}. Right-click it in the layer list, Split Stack, and choose one of the layers that "
            "this makes."
        )
    kept = long if len(long) == 3 else sorted(np.argsort(shape, kind="stable")[-3:].tolist())
    places = ", ".join(":" if axis in kept else "0" for axis in range(len(shape)))
    sizes = ", ".join(f"{abs(float(scale[axis])):g}" for axis in kept)
    return (
        f"{text}. Make a layer of one volume in napari's console: viewer.add_image(viewer.layers"
        f"[{name!r}].data[{places}], scale=({sizes}), units='mm')"
    )
