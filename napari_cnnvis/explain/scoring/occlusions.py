"""Regions to occlude, and what their voxels become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from napari_cnnvis.explain.scoring.baselines import Baseline

__all__ = ["Occlusions", "RegionOcclusions", "Subset"]


class Occlusions(Protocol):
    """Many versions of one volume, in each of which some voxels are replaced.

    Attributes
    ----------
    boxes : array, int64, shape (n, 3, 2)
        Bounding box of each one's voxels: where it begins, and one past its end.
    """

    boxes: np.ndarray

    def voxels(self, index: int) -> np.ndarray:
        """Flat indices of the voxels that are replaced; at least one."""
        ...

    def values(self, index: int) -> np.ndarray:
        """What they become, float32, shape (n_voxels,) or (n_channels, n_voxels)."""
        ...


class Subset:
    """Some of given occlusions, renumbered."""

    def __init__(self, occlusions: Occlusions, members: np.ndarray) -> None:
        self._all, self._members = occlusions, members
        self.boxes = occlusions.boxes[members]

    def voxels(self, index: int) -> np.ndarray:
        return self._all.voxels(self._members[index])

    def values(self, index: int) -> np.ndarray:
        return self._all.values(self._members[index])


class RegionOcclusions:
    """Regions of any shape, each replaced by each of several baselines.

    Voxels that a baseline leaves as they are do not count; a region of which it
    changes nothing is left out.

    Parameters
    ----------
    indices : array, int64
        Flat voxel indices, sorted so that each region is a slice.
    first, last : arrays, int64, shape (n_regions,)
        Region r covers ``indices[first[r]:last[r]]``.
    baselines : sequence of Baseline
    shape : (int, int, int)
        Of the volume.

    Attributes
    ----------
    boxes : array, int64, shape (n, 3, 2)
    region, baseline : arrays, int64, shape (n,)
        Which region is replaced by which baseline, the largest regions first.
    """

    def __init__(
        self,
        indices: np.ndarray,
        first: np.ndarray,
        last: np.ndarray,
        baselines: Sequence[Baseline],
        shape: tuple[int, ...],
    ) -> None:
        self._baselines = baselines
        self._indices, rows = [], []
        for number, baseline in enumerate(baselines):
            replaced = baseline.replaces.reshape(-1)[indices]
            before = np.concatenate([[0], np.cumsum(replaced)])
            self._indices.append(indices[replaced])
            table = np.stack([before[first], before[last]], axis=1)
            regions = np.flatnonzero(table[:, 1] > table[:, 0])
            rows.append(np.column_stack([regions, np.full(len(regions), number), table[regions]]))
        table = np.concatenate(rows)
        table = table[np.lexsort([table[:, 1], table[:, 0], table[:, 2] - table[:, 3]])]
        self.region, self.baseline, self._first, self._last = table.T
        self.boxes = self._bounding_boxes(shape)

    def _bounding_boxes(self, shape: tuple[int, ...]) -> np.ndarray:
        places = [
            [axis.astype(np.int16) for axis in np.unravel_index(indices, shape)]
            for indices in self._indices
        ]
        boxes = np.empty((len(self.region), 3, 2), np.int64)
        for i, (number, a, b) in enumerate(
            zip(self.baseline, self._first, self._last, strict=True)
        ):
            for axis, place in enumerate(places[number]):
                boxes[i, axis] = place[a:b].min(), place[a:b].max() + 1
        return boxes

    def voxels(self, index: int) -> np.ndarray:
        return self._indices[self.baseline[index]][self._first[index] : self._last[index]]

    def values(self, index: int) -> np.ndarray:
        return self._baselines[self.baseline[index]].values(self.voxels(index))
