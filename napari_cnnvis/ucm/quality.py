"""How well supervoxels keep to known regions, and to the scan.

The measures of Xu and Corso (CVPR 2012), of Yang, Sethi, Rangarajan and Ranka
(ACCV 2016) and, for achievable segmentation accuracy, of Liu et al. (CVPR 2011).
Label 0 is background in all of them: of the supervoxels, and of the known regions.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_array

from napari_cnnvis.errors import MethodError
from napari_cnnvis.ucm.hierarchy import Hierarchy

__all__ = [
    "achievable_accuracy",
    "best_region",
    "boundary_recall",
    "explained_variation",
    "undersegmentation_error",
]


def achievable_accuracy(labels: np.ndarray, truth: np.ndarray) -> float:
    """Achievable segmentation accuracy, ``(1/N) sum_s max_g |s and g|``.

    Parameters
    ----------
    labels : integer array, shape (i, j, k)
        Supervoxels.
    truth : integer array, shape (i, j, k)
        Known regions.

    Returns
    -------
    float
        Share of the voxels of both that are right if each supervoxel takes the
        region that it shares most voxels with; 1 is best.

    Raises
    ------
    MethodError
        If no voxel has both labels.
    """
    shared = _overlaps(labels, truth)
    return float(shared.max(axis=1).sum() / shared.sum())


def undersegmentation_error(labels: np.ndarray, truth: np.ndarray) -> float:
    """3D undersegmentation error, the mean over the known regions of ``(sum |s| - |g|) / |g|``.

    The sum is over the supervoxels that touch region g; voxels without a known region
    count as a region that is not averaged over. 0 is best, and it has no upper bound.

    Parameters and errors are those of `achievable_accuracy`.
    """
    shared = _overlaps(labels, truth)
    sizes = np.bincount(labels.ravel())[1:]
    known = np.bincount(truth.ravel()[labels.ravel() > 0])[1:]
    touched = ((shared > 0).T.astype(np.int64) @ sizes)[: len(known)]
    there = known > 0
    return float(((touched[there] - known[there]) / known[there]).mean())


def boundary_recall(labels: np.ndarray, truth: np.ndarray, tolerance: float = 1.0) -> float:
    """3D boundary recall: share of the known boundary with a supervoxel boundary near.

    Parameters
    ----------
    labels, truth : integer arrays, shape (i, j, k)
        Supervoxels and known regions.
    tolerance : float
        How far away a boundary still counts, in voxels.

    Returns
    -------
    float
        1 is best. Boundaries lie on voxels with a face neighbour of another label;
        steps to background do not count, on either side.

    Raises
    ------
    MethodError
        If the known regions have no boundary.
    """
    known = _boundary(np.where(labels > 0, truth, 0))
    if not known.any():
        raise MethodError("The known regions have no boundary inside the supervoxels.")
    found = _boundary(labels)
    if not found.any():
        return 0.0
    distance = ndimage.distance_transform_edt(~found)
    return float((distance[known] <= tolerance).mean())


def explained_variation(labels: np.ndarray, data: np.ndarray) -> float:
    """Share of the variance of a volume that the supervoxels' means explain, inside them.

    ``sum_i (mu_s(i) - mu)^2 / sum_i (x_i - mu)^2``; 1 is best.

    Raises
    ------
    MethodError
        If the volume is constant there.
    """
    inside = labels > 0
    values = data[inside].astype(np.float64)
    values = values - values.mean()
    total = float((values**2).sum())
    if total == 0:
        raise MethodError("The volume has one value everywhere; there is no variation to explain.")
    of = labels[inside]
    sizes = np.bincount(of)
    sums = np.bincount(of, values)
    return float((sums[sizes > 0] ** 2 / sizes[sizes > 0]).sum() / total)


def best_region(hierarchy: Hierarchy, mask: np.ndarray) -> tuple[int, float]:
    """The region of the tree that is most like a mask.

    Parameters
    ----------
    hierarchy : Hierarchy
    mask : array of bool, shape of the hierarchy's volume

    Returns
    -------
    node : int
    dice : float
        2 |node and mask| / (|node| + |mask|).

    Raises
    ------
    MethodError
        If the mask is empty.
    """
    if not mask.any():
        raise MethodError("The mask is empty.")
    shared = hierarchy.node_means(mask) * hierarchy.sizes
    dice = 2 * shared / (hierarchy.sizes + mask.sum())
    node = int(dice.argmax())
    return node, float(dice[node])


def _overlaps(labels: np.ndarray, truth: np.ndarray) -> csr_array:
    """Voxels that supervoxel s + 1 and region g + 1 share, sparse (n_supervoxels, n_regions)."""
    both = (labels > 0) & (truth > 0)
    if not both.any():
        raise MethodError("No voxel has both a supervoxel and a known region.")
    pairs = (labels[both].astype(np.int64) - 1, truth[both].astype(np.int64) - 1)
    shape = (int(labels.max()), int(truth.max()))
    return csr_array((np.ones(len(pairs[0]), np.int64), pairs), shape=shape)


def _boundary(labels: np.ndarray) -> np.ndarray:
    """Voxels with a face neighbour of another label, background aside."""
    edge = np.zeros(labels.shape, bool)
    for axis in range(3):
        here, there = np.moveaxis(labels, axis, 0)[:-1], np.moveaxis(labels, axis, 0)[1:]
        differ = (here != there) & (here > 0) & (there > 0)
        view = np.moveaxis(edge, axis, 0)
        view[:-1] |= differ
        view[1:] |= differ
    return edge
