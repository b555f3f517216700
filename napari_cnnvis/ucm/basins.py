"""Supervoxels: the watershed basins of the differences between neighbouring voxels."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

__all__ = ["basins"]


def basins(data: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Watershed basins of the graph of voxels whose edges weigh their difference in intensity.

    Each voxel flows to the face neighbour that is most like it; voxels that flow together
    are a basin. That is the watershed of an edge-weighted graph (Cousty, Bertrand, Najman
    and Couprie, TPAMI 2009: the drop of water principle), in linear time; boundaries lie
    between voxels, so that none is lost to a ridge. About four voxels make a basin.

    Parameters
    ----------
    data : array, shape (i, j, k)
    head : array of bool, shape (i, j, k)
        Where basins are sought.

    Returns
    -------
    array, int32, shape (i, j, k)
        Labels 1 .. n, each connected by faces; 0 outside the head. Of neighbours that are
        as much alike the first counts: +i, -i, +j, -j, +k, -k.
    """
    least = np.full(head.shape, np.inf, np.float32)
    step = np.zeros(head.shape, np.int32)
    strides = [int(np.prod(head.shape[axis + 1 :])) for axis in range(head.ndim)]
    for axis in range(head.ndim):
        along = [np.moveaxis(x, axis, 0) for x in (data, head, least, step)]
        values, inside, lowest, way = along
        difference = np.abs(values[1:] - values[:-1])
        difference[~np.logical_and(inside[1:], inside[:-1])] = np.inf
        for here, sign in ((np.s_[:-1], 1), (np.s_[1:], -1)):
            closer = difference < lowest[here]
            lowest[here][closer] = difference[closer]
            way[here][closer] = sign * strides[axis]
    voxels = np.flatnonzero(head)
    number = np.zeros(head.size, np.int32)
    number[voxels] = np.arange(len(voxels))
    flows_to = number[voxels + step.ravel()[voxels]]
    flow = coo_array(
        (np.ones(len(voxels), bool), (np.arange(len(voxels)), flows_to)), shape=(len(voxels),) * 2
    )
    _, basin = connected_components(flow, directed=False)
    labels = np.zeros(head.shape, np.int32)
    labels.ravel()[voxels] = basin + 1
    return labels
