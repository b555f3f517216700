"""A map's own cells: the target layer's grid, how it lies on the scan, and what a cell sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_cnnvis._napari.layers.maps import MapCells, map_of
from napari_cnnvis._napari.layers.place import affine_of

__all__ = ["CellGrid", "Field", "NativeCells", "why_no_cells"]


@dataclass(frozen=True, eq=False)
class Field:
    """A receptive field as a box of a layer's voxels.

    Attributes
    ----------
    low, high : arrays of int, shape (3,)
        First and last voxel along each axis; outside the layer where the field is.
    size : array, shape (3,)
        How wide it is in voxels of the network's input.
    size_mm : array, shape (3,)
        The same in mm.
    """

    low: np.ndarray
    high: np.ndarray
    size: np.ndarray
    size_mm: np.ndarray


@dataclass(frozen=True, eq=False)
class CellGrid:
    """Where cells lie, seen from the voxels of the layer that shows the map.

    Along axis b of the network's input, cell n is drawn about input voxel
    ``start[b] + step[b] * n``; voxel v of the shown layer is at input voxel
    ``scale[b] * v[axes[b]] + shift[b]``.

    Attributes
    ----------
    count, shape : tuples of int
        Cells, and voxels of the network's input, along its axes.
    start, step, axes, scale, shift : arrays, shape (3,)
    spacing : array, shape (3,)
        Lengths of the input's voxels in mm.
    fields : LayerGrid or None
        Where the receptive fields are.
    """

    count: tuple[int, ...]
    shape: tuple[int, ...]
    start: np.ndarray
    step: np.ndarray
    axes: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    spacing: np.ndarray
    fields: Any

    @classmethod
    def of(cls, cells: MapCells, layer: Any) -> CellGrid | None:
        """The grid of a map's cells on its layer; None if it is not known, or slanted."""
        if cells.affine is None or cells.shape is None:
            return None
        affine, shape, count = cells.affine, cells.shape, cells.values.shape
        to_input = np.linalg.inv(affine) @ affine_of(layer)
        turn, number = to_input[:3, :3], np.arange(3)
        axes = np.abs(turn).argmax(axis=1)
        scale = turn[number, axes]
        slanted = turn.copy()
        slanted[number, axes] = 0
        across = np.abs(slanted) @ np.array(layer.data.shape)
        if len(set(axes.tolist())) < 3 or (across > 0.5).any():
            return None
        fields = cells.grid
        if fields is None or cells.alignment == "stretch":  # as layer_maps.interpolate does
            step = np.array(shape) / np.array(count)
            start = (step - 1) / 2
        else:
            start, step = np.array(fields.start), np.array(fields.step)
        return cls(
            *(count, shape, start, step, axes, scale, to_input[:3, 3]),
            *(np.linalg.norm(affine[:3, :3], axis=0), fields),
        )

    @property
    def size_mm(self) -> np.ndarray:
        """How large a cell is along the axes of the layer that shows the map, in mm."""
        return self._in_layer_order(self.step * self.spacing)

    def cell_at(self, voxel: Sequence[int]) -> tuple[int, ...] | None:
        """The cell that a voxel of the shown layer is nearest to; None if the network does not see it.

        As in `layer_maps.nearest_cells`: by the input's voxel, and the outermost cells
        reach to the edges.
        """
        place = self.scale * np.asarray(voxel, dtype=float)[self.axes] + self.shift
        place = np.floor(place.round(6) + 0.5)
        if (place < 0).any() or (place >= self.shape).any():
            return None
        cell = np.floor((place - self.start) / self.step + 0.5).astype(int)
        return tuple(cell.clip(0, np.array(self.count) - 1).tolist())

    def field_of(self, cell: tuple[int, ...]) -> Field | None:
        """What a cell sees of the scan; None if that is not known."""
        size = getattr(self.fields, "size", None)
        if size is None:
            return None
        centre = np.add(self.fields.start, np.multiply(self.fields.step, cell))
        ends = np.stack([centre - np.divide(size, 2), centre + np.divide(size, 2)])
        ends = np.sort((ends - self.shift) / self.scale, axis=0)
        low, high = np.ceil(ends[0] - 1e-6), np.floor(ends[1] + 1e-6)
        return Field(
            self._in_layer_order(low).astype(int),
            self._in_layer_order(high).astype(int),
            self._in_layer_order(np.asarray(size, dtype=float)),
            self._in_layer_order(np.multiply(size, self.spacing)),
        )

    def _in_layer_order(self, values: np.ndarray) -> np.ndarray:
        result = np.empty(3)
        result[self.axes] = values
        return result


@dataclass(frozen=True, eq=False)
class NativeCells:
    """The cells of a target layer.

    Attributes
    ----------
    count : tuple of int
        How many there are along the axes of the network's input.
    grid : CellGrid or None
        Where they lie, if that is known.
    nearest : array or callable
        The map with the value of each voxel's nearest cell.
    """

    count: tuple[int, ...]
    grid: CellGrid | None
    nearest: np.ndarray | Callable[[], np.ndarray]

    @classmethod
    def of(cls, layer: Any) -> NativeCells | None:
        """The cells of an overlay, or None if it has none."""
        map_ = map_of(layer)
        cells = None if map_ is None else map_.cells
        if cells is None:
            return None
        return cls(cells.values.shape, CellGrid.of(cells, layer), cells.nearest)

    def shown(self) -> np.ndarray:
        """The map by its nearest cells."""
        return np.asarray(self.nearest() if callable(self.nearest) else self.nearest)

    @property
    def size_text(self) -> str:
        """ "15 × 15 × 14 mm" along the shown axes, or how many cells there are."""
        if self.grid is None:
            return " × ".join(map(str, self.count))
        return " × ".join(f"{side:.3g}" for side in self.grid.size_mm) + " mm"


def why_no_cells(layer: Any) -> str:
    """Why a map cannot be shown by its cells, in plain words."""
    map_ = map_of(layer)
    shown = {} if map_ is None else map_.provenance
    if not shown.get("layer"):
        return "This map was not made on a target layer's cells."
    if (shown.get("model") or {}).get("input", {}).get("window"):
        return "This map is the mean of overlapping windows, which have no common cells."
    return "The cells of this map were not kept; run the method again."
