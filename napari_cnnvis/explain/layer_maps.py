"""From a map on a layer's cells to a map on the scan's voxels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_cnnvis.conform import Conformed
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.models.layers import LayerGrid, TargetLayer
from napari_cnnvis.volume import Volume

__all__ = ["LayerMaps", "interpolate"]


def interpolate(
    cells: np.ndarray, shape: tuple[int, ...], grid: LayerGrid | None = None
) -> np.ndarray:
    """Trilinear interpolation of a layer's cells at every input voxel; edges extended.

    Parameters
    ----------
    cells : array, shape (a, b, c)
    shape : (int, int, int)
        The input's shape.
    grid : LayerGrid, optional
        Where the cells lie. If not given they are spread evenly over the input,
        which is ``align_corners=False`` in torch.

    Returns
    -------
    array, float32, shape `shape`
    """
    result = np.asarray(cells, dtype=np.float32)
    for axis, n in enumerate(shape):
        size = result.shape[axis]
        if grid is None:
            step, start = n / size, (n / size - 1) / 2
        else:
            step, start = grid.step[axis], grid.start[axis]
        position = ((np.arange(n) - start) / step).clip(0, size - 1)
        low = np.minimum(position.astype(int), max(size - 2, 0))
        weights = np.zeros((n, size), dtype=np.float32)
        weights[np.arange(n), low] = 1 - (position - low)
        weights[np.arange(n), np.minimum(low + 1, size - 1)] += position - low
        result = np.moveaxis(np.tensordot(weights, result, (1, axis)), 0, axis)
    return np.ascontiguousarray(result)


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
        return Attribution(
            self.conformed.back(interpolate(cells, self.conformed.data.shape, grid)),
            self.volume.affine,
            {**self.provenance, "layer": name},
            self.volume,
            native=cells,
            notes=self.conformed.notes,
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self.native)

    def __len__(self) -> int:
        return len(self.native)
