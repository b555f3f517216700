"""Connected parts of a map above a threshold, and how large they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from nibabel.affines import apply_affine
from scipy import ndimage

from napari_cnnvis.errors import MethodError

__all__ = ["Cluster", "cluster_mask", "clusters"]

#: voxels that share a face or an edge are neighbours
_EIGHTEEN = ndimage.generate_binary_structure(3, 2)


@dataclass(frozen=True)
class Cluster:
    """A connected part of a map.

    Attributes
    ----------
    n_voxels : int
    volume_mm3 : float
    peak : float
        The value that is farthest from 0.
    peak_voxel : (int, int, int)
        Where it is (i, j, k); the first one if there are several.
    centroid : (float, float, float)
        Mean place of the voxels in mm.
    """

    n_voxels: int
    volume_mm3: float
    peak: float
    peak_voxel: tuple[int, int, int]
    centroid: tuple[float, float, float]


def clusters(
    map: np.ndarray,
    threshold: float,
    spacing: Sequence[float],
    minimum_mm3: float = 0.0,
    signed: bool = False,
    affine: np.ndarray | None = None,
) -> tuple[np.ndarray, list[Cluster]]:
    """The connected parts of a map above a threshold that are large enough.

    Voxels are connected if they share a face or an edge (18 neighbours).

    Parameters
    ----------
    map : array, shape (i, j, k)
    threshold : float
        0 or more; voxels have to be above it.
    spacing : three floats
        Millimetres between voxels along i, j, k.
    minimum_mm3 : float
        Smaller clusters are left out.
    signed : bool
        Voxels below -threshold make clusters, too; they do not join those above.
    affine : array, shape (4, 4), optional
        Voxels to mm, for the centroids; by default `spacing` alone, from the first voxel.

    Returns
    -------
    mask : array of bool, shape (i, j, k)
        The voxels of the clusters that are left.
    clusters : list of Cluster
        The largest first.

    Raises
    ------
    MethodError
        If the map is not three-dimensional, or the threshold is below 0.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> from napari_cnnvis.evaluate import clusters
    >>> result = cv.grad_cam(model, volume, "lesion")
    >>> mask, found = clusters(result.data, 0.01, volume.spacing)
    >>> len(found), int(mask.sum())
    (1, 90)
    """
    map = np.asarray(map)
    labels, sizes, kept = _labelled(map, threshold, spacing, minimum_mm3, signed)
    mask = np.append(False, kept)[labels]
    flat = np.flatnonzero(mask)
    of = (np.cumsum(kept) - 1)[labels.ravel()[flat] - 1]
    affine = np.diag([*spacing, 1.0]) if affine is None else affine
    voxel_mm3 = float(np.prod(spacing))
    return mask, _described(map, flat, of, sizes[kept], voxel_mm3, affine)


def cluster_mask(
    map: np.ndarray,
    threshold: float,
    spacing: Sequence[float],
    minimum_mm3: float = 0.0,
    signed: bool = False,
) -> tuple[np.ndarray, int, int]:
    """Only the mask of `clusters`, in half the time, and of how many clusters how many are left.

    Returns
    -------
    mask : array of bool, shape (i, j, k)
    left : int
        Number of clusters in the mask.
    found : int
        Number of clusters of any size.
    """
    labels, sizes, kept = _labelled(np.asarray(map), threshold, spacing, minimum_mm3, signed)
    return np.append(False, kept)[labels], int(kept.sum()), len(sizes)


def _labelled(
    map: np.ndarray, threshold: float, spacing: Sequence[float], minimum_mm3: float, signed: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cluster numbers from 1 of all voxels, the clusters' voxels, and which are large enough."""
    if map.ndim != 3:
        raise MethodError(f"The map has shape {map.shape}; clusters are sought in 3D maps.")
    if not threshold >= 0:
        raise MethodError(f"A threshold of {threshold} is not possible; give 0 or more.")
    labels, count = ndimage.label(map > threshold, _EIGHTEEN)
    if signed:
        below, more = ndimage.label(map < -threshold, _EIGHTEEN)
        np.add(below, count, out=labels, where=below > 0)
        count += more
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return labels, sizes, sizes * float(np.prod(spacing)) >= minimum_mm3 * (1 - 1e-9)


def _described(
    map: np.ndarray,
    flat: np.ndarray,
    of: np.ndarray,
    sizes: np.ndarray,
    voxel_mm3: float,
    affine: np.ndarray,
) -> list[Cluster]:
    """The clusters whose voxels `flat` belong to the numbers `of`, the largest first."""
    values = map.ravel()[flat]
    strength = np.abs(values)
    best = np.zeros(len(sizes), strength.dtype)
    np.maximum.at(best, of, strength)
    strongest = np.flatnonzero(strength == best[of])[::-1]
    peaks = np.zeros(len(sizes), np.int64)
    peaks[of[strongest]] = strongest  # the first one is written last
    index = np.unravel_index(flat, map.shape)
    centres = np.stack([np.bincount(of, i, len(sizes)) / sizes for i in index], axis=1)
    centres = apply_affine(affine, centres.reshape(-1, 3))
    peak_voxels = np.stack([i[peaks] for i in index], axis=1)
    return [
        Cluster(
            int(sizes[c]),
            float(sizes[c] * voxel_mm3),
            float(values[peaks[c]]),
            tuple(peak_voxels[c].tolist()),
            tuple(centres[c].tolist()),
        )
        for c in np.argsort(-sizes, kind="stable")
    ]
