"""From a map on a layer's cells to a map on the scan's voxels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from napari_cnnvis.conform import Conformed
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.options import ALIGNMENTS, check_choice
from napari_cnnvis.models.layers import LayerGrid, TargetLayer
from napari_cnnvis.volume import Volume

__all__ = ["LayerMaps", "interpolate"]


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
class LayerMaps(Mapping[str, Attribution]):
    """Grad-CAM of several layers; a layer's map is interpolated when it is asked for.

    A read-only mapping from layer name to `Attribution`.
    """

    native: dict[str, np.ndarray]
    layers: dict[str, TargetLayer]
    volume: Volume
    conformed: Conformed
    alignment: str
    provenance: dict[str, Any]

    def __getitem__(self, name: str) -> Attribution:
        layer = self.layers[name]
        grid = layer.grid if self.alignment == "receptive field" else None
        cells = self.native[name]
        notes = self.conformed.notes
        off = _displacement(layer, self.conformed.data.shape) if grid is None else 0.0
        if off > 2:
            notes += (
                f"Spread evenly, the cells of {name} lie up to {off:.0f} voxels from the centres of "
                "their receptive fields; the alignment 'receptive field' puts them there.",
            )
        return Attribution(
            self.conformed.back(interpolate(cells, self.conformed.data.shape, grid)),
            self.volume.affine,
            {**self.provenance, "layer": name},
            self.volume,
            native=cells,
            notes=notes,
        )

    def aligned(self, alignment: str) -> LayerMaps:
        """The same maps with their cells put elsewhere; nothing is run again."""
        check_choice(alignment, ALIGNMENTS, "an alignment")
        provenance = {**self.provenance, "alignment": alignment}
        return replace(self, alignment=alignment, provenance=provenance)

    def __iter__(self) -> Iterator[str]:
        return iter(self.native)

    def __len__(self) -> int:
        return len(self.native)
