"""Layers that mark the voxel that is looked at, and what the network's cell there sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.utils.colormaps import DirectLabelColormap

from napari_cnnvis._napari.inspect.cells import Field
from napari_cnnvis._napari.layers.metadata import as_aside
from napari_cnnvis._napari.layers.place import spacing_of
from napari_cnnvis._napari.layers.scans import spatial_state

__all__ = ["FIELD_NAME", "Marks", "outline"]

FIELD_NAME = "receptive field"
_VOXEL_NAME = "inspected voxel"
_FIELD_COLOUR = (0.2, 1.0, 0.6, 1.0)


def outline(field: Field, shape: tuple[int, ...], displayed: Sequence[int]) -> np.ndarray:
    """The edges of a box of voxels.

    Parameters
    ----------
    field : Field
    shape : (int, int, int)
        Of the layer; sides of the box that lie outside have no edges.
    displayed : sequence of int
        The axes that are on the screen: two, and the box is a frame in each slice; three,
        and it is a wire frame.

    Returns
    -------
    array, uint8, shape `shape`
        1 on the edges, else 0.
    """
    faces = np.zeros(shape, np.uint8)
    inside = tuple(
        slice(max(a, 0), max(b + 1, 0)) for a, b in zip(field.low, field.high, strict=True)
    )
    box = faces[inside]
    for axis in displayed:
        view = np.moveaxis(box, axis, 0)
        low, high = field.low[axis], field.high[axis]
        if not len(view):
            continue
        if low >= 0:
            view[0] += 1
        if high < shape[axis] and high > low:
            view[-1] += 1
    return (faces >= len(displayed) - 1).astype(np.uint8)


class Marks:
    """Keeps at most two layers on a map: a point, and the outline of a receptive field.

    Layers that the user deleted come back with the next mark. What is selected stays.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._point: Any = None
        self._box: Any = None
        self._field: Field | None = None
        self._on: Any = None

    def show(self, layer: Any, voxel: Sequence[int], field: Field | None) -> None:
        """Mark a voxel of a layer, and the outline of a field if there is one."""
        self._on, self._field = layer, field
        selected = set(self._viewer.layers.selection)
        active = self._viewer.layers.selection.active
        point = self._there(self._point)
        if point is None or not _same_place(point, layer):
            self._remove(point)
            self._point = self._viewer.add_points(
                np.array([voxel], dtype=float),
                **as_aside(spatial_state(layer)),
                name=_VOXEL_NAME,
                symbol="cross",
                size=float(8 / spacing_of(layer).mean()),
                face_color="cyan",
                border_width=0,
                blending="translucent_no_depth",
                projection_mode="none",
            )
            self._point.editable = False
        else:
            point.data = np.array([voxel], dtype=float)
        self.show_field(field)
        self._viewer.layers.selection = selected
        self._viewer.layers.selection.active = active

    def show_field(self, field: Field | None) -> None:
        """Outline a field on the layer of the last mark, or take the outline away."""
        box = self._there(self._box)
        self._field = field
        if field is None or self._on is None:
            self._remove(box)
            return
        data = outline(field, self._on.data.shape, self._displayed())
        if box is not None and _same_place(box, self._on):
            box.data = data
            return
        self._remove(box)
        self._box = self._viewer.add_labels(
            data,
            **as_aside(spatial_state(self._on)),
            name=FIELD_NAME,
            opacity=0.9,
            colormap=DirectLabelColormap(color_dict={1: _FIELD_COLOUR, None: (0, 0, 0, 0)}),
        )
        self._box.editable = False

    def redraw(self) -> None:
        """Redraw the outlines: other axes are on the screen."""
        box = self._there(self._box)
        if box is not None and self._field is not None:
            box.data = outline(self._field, box.data.shape, self._displayed())

    def clear(self) -> None:
        """Take both away."""
        self._remove(self._there(self._point))
        self._remove(self._there(self._box))
        self._on = self._field = None

    def _displayed(self) -> tuple[int, ...]:
        """The layer's axes that are on the screen."""
        dims = self._viewer.dims
        return tuple(a - (dims.ndim - 3) for a in dims.displayed if a >= dims.ndim - 3)

    def _there(self, layer: Any) -> Any:
        return layer if layer is not None and layer in self._viewer.layers else None

    def _remove(self, layer: Any) -> None:
        if layer is not None:
            self._viewer.layers.remove(layer)


def _same_place(layer: Any, other: Any) -> bool:
    shape = getattr(layer.data, "shape", ())
    fits = len(shape) != 3 or shape == other.data.shape
    corners = ((0, 0, 0), (10, 20, 30))
    return fits and all(
        np.allclose(layer.data_to_world(c), other.data_to_world(c)) for c in corners
    )
