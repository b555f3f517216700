"""Where a map is highest: its local maxima, in millimetres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nibabel.affines import apply_affine
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.morphology import local_maxima

from napari_cnnvis.errors import MethodError

__all__ = ["Extrema", "Peak", "find_extrema", "find_peaks"]


@dataclass(frozen=True)
class Peak:
    """A local maximum: its voxel (i, j, k), its place in RAS mm and the map's value there."""

    voxel: tuple[int, int, int]
    mm: tuple[float, float, float]
    value: float


@dataclass(frozen=True, eq=False)
class Extrema:
    """All local maxima of a map, and its minima if it is signed; the strongest first.

    Attributes
    ----------
    voxels : array of int, shape (n, 3)
    mm : array, shape (n, 3)
        In RAS mm.
    values : array, shape (n,)
        Of the map; their absolute values fall.
    """

    voxels: np.ndarray
    mm: np.ndarray
    values: np.ndarray

    def peaks(
        self,
        n: int = 20,
        minimum_distance_mm: float = 8.0,
        threshold: float = 0.0,
        inside: np.ndarray | None = None,
    ) -> list[Peak]:
        """The strongest peaks that are far enough apart; see `find_peaks`."""
        left = np.abs(self.values) > threshold
        if inside is not None:
            left &= np.asarray(inside, bool)[tuple(self.voxels.T)]
        peaks: list[Peak] = []
        while len(peaks) < n and left.any():
            best = int(left.argmax())
            away = np.linalg.norm(self.mm - self.mm[best], axis=1)
            left &= away >= minimum_distance_mm
            left[best] = False
            voxel, mm = (tuple(row[best].tolist()) for row in (self.voxels, self.mm))
            peaks.append(Peak(voxel, mm, float(self.values[best])))
        return peaks


def find_extrema(map: np.ndarray, affine: np.ndarray, signed: bool = False) -> Extrema:
    """Every local maximum above 0 of a map and, if it is signed, every local minimum below 0.

    A voxel is one if none of the 26 around it is higher. Touching voxels of the same
    value (a plateau) count as one, at their voxel nearest to their centroid.

    Parameters
    ----------
    map : array, shape (i, j, k)
        NaN and infinite voxels do not count.
    affine : array, shape (4, 4)
        Voxels to RAS mm.
    signed : bool
        Take minima, too.

    Raises
    ------
    MethodError
        If the map is not three-dimensional.
    """
    map = np.asarray(map)
    if map.ndim != 3:
        raise MethodError(f"The map has shape {map.shape}; peaks are sought in 3D maps.")
    map = np.where(np.isfinite(map), map, map.dtype.type(0))
    places = [_maxima(map, affine)]
    if signed:
        places.append(_maxima(-map, affine))
    flat = np.concatenate(places)
    values = map.ravel()[flat]
    order = np.argsort(-np.abs(values), kind="stable")
    voxels = np.stack(np.unravel_index(flat[order], map.shape), axis=1)
    return Extrema(voxels, apply_affine(affine, voxels), values[order])


def find_peaks(
    map: np.ndarray,
    affine: np.ndarray,
    n: int = 20,
    minimum_distance_mm: float = 8.0,
    signed: bool = False,
    threshold: float = 0.0,
    inside: np.ndarray | None = None,
) -> list[Peak]:
    """The strongest peaks of a map.

    Local maxima are taken from the highest down; one that is nearer than
    `minimum_distance_mm` to a peak that was taken before is left out.

    Parameters
    ----------
    map : array, shape (i, j, k)
    affine : array, shape (4, 4)
        Voxels to RAS mm.
    n : int
        So many at most.
    minimum_distance_mm : float
    signed : bool
        Local minima below 0 are peaks as well, as strong as their absolute value.
    threshold : float
        The absolute value has to be above it.
    inside : array of bool, shape (i, j, k), optional
        Peaks outside are left out.

    Returns
    -------
    list of Peak
        The strongest first. Only voxels above 0 (or below, if signed) are peaks.

    Raises
    ------
    MethodError
        If the map is not three-dimensional.

    Examples
    --------
    >>> map = np.zeros((5, 5, 5))
    >>> map[1, 2, 3] = 7
    >>> find_peaks(map, np.diag([2.0, 2, 2, 1]))
    [Peak(voxel=(1, 2, 3), mm=(2.0, 4.0, 6.0), value=7.0)]
    """
    return find_extrema(map, affine, signed).peaks(n, minimum_distance_mm, threshold, inside)


def _maxima(map: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Flat indices of the local maxima above 0, one for each plateau."""
    above = np.pad(np.maximum(map, 0), 1)  # so that the volume's edges are like any place
    found = local_maxima(above, connectivity=3, allow_borders=False)
    flat = np.flatnonzero(found)
    of = _plateaus(found, flat)
    voxels = np.stack(np.unravel_index(flat, found.shape), axis=1) - 1
    places = apply_affine(affine, voxels)
    size = np.bincount(of)
    centres = np.stack([np.bincount(of, axis) / size for axis in places.T], axis=1)
    away = ((places - centres[of]) ** 2).sum(axis=1).round(6)  # ties are ties
    order = np.lexsort((flat, away, of))
    _, first = np.unique(of[order], return_index=True)
    return np.ravel_multi_index(tuple(voxels[order[first]].T), map.shape)


def _plateaus(found: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """For each of the voxels `flat`, where `found` holds, the number of its connected part."""
    _, height, width = found.shape
    steps = np.array([(a * height + b) * width + c for a, b, c in np.ndindex(3, 3, 3)])
    neighbours = flat[:, None] + (steps - steps[13])[None, 14:]  # the later 13 of 26
    rows, columns = np.nonzero(found.ravel()[neighbours])
    others = np.searchsorted(flat, neighbours[rows, columns])
    touching = coo_array((np.ones(len(rows), bool), (rows, others)), shape=(len(flat),) * 2)
    return connected_components(touching, directed=False)[1]
