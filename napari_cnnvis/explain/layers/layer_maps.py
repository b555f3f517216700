"""From a map on a layer's cells to a map on the scan's voxels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.flat_maps import why_layer_is_flat
from napari_cnnvis.explain.method import Method
from napari_cnnvis.explain.parameter import check_choice
from napari_cnnvis.explain.record import Record
from napari_cnnvis.explain.registry import method_of
from napari_cnnvis.models.layers import TargetLayer
from napari_cnnvis.models.layouts import LayerGrid
from napari_cnnvis.models.windows import importance
from napari_cnnvis.scan.conform import Conformed
from napari_cnnvis.scan.volume import Volume

__all__ = ["LayerMaps", "Piece", "interpolate", "nearest_cells"]


def interpolate(
    cells: np.ndarray, shape: tuple[int, ...], grid: LayerGrid | None = None
) -> np.ndarray:
    """Trilinear interpolation of a layer's cells at every input voxel.

    Parameters
    ----------
    cells : array, shape (a, b, c)
    shape : (int, int, int)
        The input's shape.
    grid : LayerGrid, optional
        Where the cells lie; beyond the outermost ones the map falls to 0 within one
        cell. If not given they are spread evenly over the input and the edges are
        extended, which is ``align_corners=False`` in torch.

    Returns
    -------
    array, float32, shape `shape`
    """
    result = np.asarray(cells, dtype=np.float32)
    for axis, n in enumerate(shape):
        size = result.shape[axis]
        start, step = _start_and_step(n, size, grid, axis)
        position = (np.arange(n) - start) / step
        if grid is None:
            position = position.clip(0, size - 1)
        low = np.floor(position).astype(int)
        weights = np.zeros((n, size), dtype=np.float32)
        for cell, weight in ((low, 1 - (position - low)), (low + 1, position - low)):
            there = (cell >= 0) & (cell < size)
            weights[np.flatnonzero(there), cell[there]] = weight[there]
        result = np.moveaxis(np.tensordot(weights, result, (1, axis)), 0, axis)
    return np.ascontiguousarray(result)


def nearest_cells(
    cells: np.ndarray, shape: tuple[int, ...], grid: LayerGrid | None = None
) -> np.ndarray:
    """The nearest cell at every input voxel, not interpolated; see `interpolate`."""
    index = []
    for axis, n in enumerate(shape):
        start, step = _start_and_step(n, cells.shape[axis], grid, axis)
        position = np.floor((np.arange(n) - start) / step + 0.5).astype(int)
        index.append(position.clip(0, cells.shape[axis] - 1))
    return np.asarray(cells, np.float32)[np.ix_(*index)]


def _start_and_step(n: int, size: int, grid: LayerGrid | None, axis: int) -> tuple[float, float]:
    """Input voxel of the first cell's centre, and voxels from cell to cell."""
    if grid is not None:
        return grid.start[axis], grid.step[axis]
    step = n / size
    return (step - 1) / 2, step


def _displacement(layer: TargetLayer, shape: tuple[int, ...]) -> float:
    """How many voxels "stretch" puts a cell away from its receptive field's centre, at most."""
    if layer.grid is None:
        return 0.0
    worst = 0.0
    for axis, (n, size) in enumerate(zip(shape, layer.shape, strict=True)):
        start, step = _start_and_step(n, size, None, axis)
        for cell in (0, size - 1):
            centre = layer.grid.start[axis] + layer.grid.step[axis] * cell
            worst = max(worst, abs(start + step * cell - centre))
    return worst


@dataclass(frozen=True, eq=False)
class Piece:
    """The cells of layers in a part of the scan that the network sees at once.

    Attributes
    ----------
    place : tuple of slice
        Where the part lies on the model's grid.
    cells : dict of str to dict of str to array
        By method and layer, in raw units, signed.
    why_zero : dict of str to str
        Of layers whose cells cannot be but zero: why.
    remarks : dict of str to str
        What else is to be said of a layer.
    """

    place: tuple[slice, ...]
    cells: dict[str, dict[str, np.ndarray]]
    why_zero: dict[str, str]
    remarks: dict[str, str]

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels of the part."""
        return tuple(s.stop - s.start for s in self.place)


@dataclass(frozen=True, eq=False)
class LayerMaps(Mapping[str, Attribution]):
    """Maps of several layers from one pass; a map is interpolated when it is asked for.

    A read-only mapping from layer name to `Attribution`. The maps of the other methods
    that use the same pass follow from it as well: `of`.

    Attributes
    ----------
    pieces : tuple of Piece
        One for the whole scan, or one for each window. Where windows overlap their maps
        are averaged in raw units, with Gaussian weights.
    layers : dict of str to TargetLayer
    volume : Volume
        The scan that the map lies on.
    conformed : Conformed
    how : Method
        One of the methods in the pieces, with its parameters.
    record : Record
    recommended : str
        The layer that is taken where none is named.
    """

    pieces: tuple[Piece, ...]
    layers: dict[str, TargetLayer]
    volume: Volume
    conformed: Conformed
    how: Method
    record: Record
    recommended: str = ""

    @property
    def provenance(self) -> dict[str, Any]:
        """The record of the pass as a dictionary of plain values."""
        return dict(self.record.values)

    @property
    def method(self) -> str:
        """The method's key."""
        return self.how.key

    @property
    def relu(self) -> bool:
        """Whether only what supports the class is kept."""
        return getattr(self.how, "relu", False)

    @property
    def alignment(self) -> str:
        """Where a layer's cells are put."""
        return getattr(self.how, "alignment", "stretch")

    def __getitem__(self, name: str) -> Attribution:
        layer = self.layers[name]
        grid = layer.grid if self.alignment == "receptive field" else None
        notes = self.conformed.notes
        shape = self.pieces[0].shape
        off = _displacement(layer, shape) if grid is None else 0.0
        if off > 2:
            notes += (
                f"Spread evenly, the cells of {name} lie up to {off:.0f} voxels from the centres of "
                "their receptive fields; the alignment 'receptive field' puts them there.",
            )
        if len(self.pieces) > 1:
            notes += (
                f"The mean of {len(self.pieces)} overlapping windows of {' x '.join(map(str, shape))} "
                "voxels, averaged before anything else is done.",
            )
        if len(self.pieces) == 1 or all(piece.why_zero.get(name) for piece in self.pieces):
            piece = self.pieces[0]
            signed = piece.cells[self.how.key][name]
            why = piece.why_zero.get(name, "")
            notes += why_layer_is_flat(name, signed, self._cells(piece, name), why)
        notes += (self.pieces[0].remarks[name],) if name in self.pieces[0].remarks else ()
        if layer.runs > 1:
            notes += (f"{name} runs {layer.runs} times in a pass; this is the last time.",)
        return Attribution(
            self.conformed.back(self._map(name, grid)),
            self.volume.affine,
            self.record.with_values(layer=name),
            self.volume,
            native=self._cells(self.pieces[0], name) if len(self.pieces) == 1 else None,
            notes=notes,
            nearest=None if len(self.pieces) > 1 else partial(self._nearest, name, grid),
            cell_grid={
                "affine": self.conformed.affine,
                "shape": self.conformed.data.shape,
                "grid": layer.grid,
                "alignment": self.alignment,
            },
        )

    def _nearest(self, name: str, grid: LayerGrid | None) -> np.ndarray:
        (piece,) = self.pieces
        return self.conformed.back(nearest_cells(self._cells(piece, name), piece.shape, grid), 0)

    def _cells(self, piece: Piece, name: str) -> np.ndarray:
        cells = piece.cells[self.how.key][name]
        return np.maximum(cells, 0) if self.relu else cells

    def _map(self, name: str, grid: LayerGrid | None) -> np.ndarray:
        """The map on the model's grid."""
        if len(self.pieces) == 1:
            (piece,) = self.pieces
            return interpolate(self._cells(piece, name), piece.shape, grid)
        total = np.zeros(self.conformed.data.shape, np.float32)
        share = np.zeros_like(total)
        weights = importance(self.pieces[0].shape)
        for piece in self.pieces:
            total[piece.place] += weights * interpolate(self._cells(piece, name), piece.shape, grid)
            share[piece.place] += weights
        return total / share

    def of(
        self, method: str | None = None, relu: bool | None = None, alignment: str | None = None
    ) -> LayerMaps:
        """The same pass seen otherwise; nothing is run again.

        Parameters
        ----------
        method : str, optional
            Another of the gradient methods.
        relu : bool, optional
        alignment : str, optional

        Raises
        ------
        MethodError
            If the pass has no maps of this method, or there is no such alignment.
        """
        key = self.how.key if method is None else method
        check_choice(key, self.pieces[0].cells, "a method of this pass")
        changes = {"relu": relu, "alignment": alignment}
        known = {name: getattr(self.how, name) for name in self.how.parameters()}
        known |= {name: value for name, value in changes.items() if value is not None}
        how = method_of(key)(**known)
        return replace(self, how=how, record=self.record.of_view(how))

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)
