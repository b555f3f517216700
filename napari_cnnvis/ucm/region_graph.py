"""The region adjacency graph: what is known of regions and of the faces between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array

from napari_cnnvis.ucm.boundary.gradient import Faces

__all__ = ["RegionGraph"]


@dataclass(frozen=True, eq=False)
class RegionGraph:
    """Sums over regions and over the faces that they share, so that joining is adding.

    Attributes
    ----------
    sizes : array, float64, shape (n,)
        Volume of each region in mm3.
    sums : array, float64, shape (f, n)
        Integral of each feature over each region.
    pairs : array, int64, shape (2, m)
        Neighbouring regions, each pair once, the lower number first.
    contact : array, float64, shape (m,)
        Number of voxel faces that a pair shares.
    strength : array, float64, shape (m,)
        Sum of the boundary strength over those faces.
    """

    sizes: np.ndarray
    sums: np.ndarray
    pairs: np.ndarray
    contact: np.ndarray
    strength: np.ndarray

    @classmethod
    def of_labels(
        cls,
        labels: np.ndarray,
        features: Sequence[np.ndarray],
        boundary: Faces,
        voxel_volume: float,
    ) -> RegionGraph:
        """The graph of a label volume (0 = background, which takes no part).

        Parameters
        ----------
        labels : array, int32, shape (i, j, k)
            Labels 1 .. n, all present.
        features : sequence of arrays, each broadcast to (i, j, k)
        boundary : three arrays
            Boundary strength at the faces along each axis.
        voxel_volume : float
            In mm3.
        """
        n = int(labels.max())
        inside = np.flatnonzero(labels)
        region = labels.ravel()[inside] - 1
        sizes = np.bincount(region, minlength=n) * voxel_volume
        sums = np.stack(
            [
                np.bincount(region, np.broadcast_to(f, labels.shape).ravel()[inside], n)
                for f in features
            ]
        )
        low: list[np.ndarray] = []
        high: list[np.ndarray] = []
        steps: list[np.ndarray] = []
        for axis in range(labels.ndim):
            a, b = np.moveaxis(labels, axis, 0)[:-1], np.moveaxis(labels, axis, 0)[1:]
            touching = (a != b) & (a > 0) & (b > 0)
            steps.append(np.moveaxis(boundary[axis], axis, 0)[touching])
            a, b = a[touching] - 1, b[touching] - 1
            low.append(np.minimum(a, b))
            high.append(np.maximum(a, b))
        pairs, contact, strength = _add_up(
            np.concatenate(low),
            np.concatenate(high),
            np.ones(sum(map(len, low))),
            np.concatenate(steps).astype(np.float64),
            n,
        )
        return cls(sizes, sums * voxel_volume, pairs, contact, strength)

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return len(self.sizes)

    @property
    def means(self) -> np.ndarray:
        """Mean of each feature over each region, shape (f, n)."""
        return self.sums / self.sizes

    def joined(self, region: np.ndarray, n: int) -> RegionGraph:
        """The graph after joining: `region` (0 .. n - 1) is where each region goes."""
        a, b = region[self.pairs]
        apart = a != b
        a, b = a[apart], b[apart]
        pairs, contact, strength = _add_up(
            np.minimum(a, b), np.maximum(a, b), self.contact[apart], self.strength[apart], n
        )
        return RegionGraph(
            np.bincount(region, self.sizes, n),
            np.stack([np.bincount(region, s, n) for s in self.sums]),
            pairs,
            contact,
            strength,
        )


def _add_up(
    low: np.ndarray, high: np.ndarray, contact: np.ndarray, strength: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs that occur several times become one with the sums of both values."""
    both = coo_array((contact + 1j * strength, (low, high)), shape=(n, n)).tocsr()
    both.sum_duplicates()
    rows = np.repeat(np.arange(n), np.diff(both.indptr))
    pairs = np.stack([rows, both.indices.astype(np.int64)])
    return pairs, both.data.real.copy(), both.data.imag.copy()
