"""An edge detector as control: a map that looks like one says nothing of the network.

Maps that follow the scan's edges look convincing whatever the network learned [1]_.

References
----------
.. [1] J. Adebayo et al., "Sanity checks for saliency maps", arXiv:1810.03292.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.stats import rankdata

from napari_cnnvis.evaluate.trust.similarity import Similarity, compare_maps

__all__ = ["EdgeControl", "compare_with_edges", "edge_map"]

#: width of the Gaussian whose gradient is taken, in millimetres: edges of tissue, not noise
EDGE_SIGMA = 2.0
#: further blurs (mm) at which the edges are compared, so that a coarse map meets coarse edges
_BLURS = (0.0, 3.0, 6.0, 12.0)
_PLOTTED = 2000


@dataclass(frozen=True, eq=False)
class EdgeControl:
    """A map beside an edge detector's.

    Attributes
    ----------
    similarity : Similarity
        Of |map| to the edges, at the blur at which they are most alike.
    blur_mm : float
        That blur of the edges (width of the Gaussian).
    map_ranks, edge_ranks : arrays, float32, shape (n,)
        Ranks (0 to 1) of |map| and of the edges at up to 2,000 voxels, for a plot.
    """

    similarity: Similarity
    blur_mm: float
    map_ranks: np.ndarray
    edge_ranks: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """The numbers as plain values."""
        return {**self.similarity.to_dict(), "blur_mm": self.blur_mm}


def edge_map(data: np.ndarray, spacing: Sequence[float], sigma: float = EDGE_SIGMA) -> np.ndarray:
    """Gradient magnitude of the Gaussian-smoothed scan, float32, in intensity per millimetre.

    Parameters
    ----------
    data : array, shape (i, j, k)
    spacing : (float, float, float)
        Millimetres between voxels.
    sigma : float
        Width of the Gaussian in millimetres.
    """
    widths = [sigma / s for s in spacing]
    squares = np.zeros(data.shape, np.float64)
    for axis in range(3):
        order = [int(a == axis) for a in range(3)]
        slope = ndimage.gaussian_filter(
            data.astype(np.float64), widths, order=order, mode="nearest"
        )
        squares += (slope / spacing[axis]) ** 2
    return np.sqrt(squares).astype(np.float32)


def compare_with_edges(
    map_: np.ndarray,
    data: np.ndarray,
    spacing: Sequence[float],
    inside: np.ndarray,
    seed: int = 0,
) -> EdgeControl:
    """Compare |map| with the scan's edges inside a mask, at several blurs of the edges.

    Parameters
    ----------
    map_, data : arrays, shape (i, j, k)
        The map and the scan.
    spacing : (float, float, float)
        Millimetres between voxels.
    inside : array of bool, same shape
    seed : int
        Which voxels are kept for the plot.
    """
    strength = np.abs(np.asarray(map_, np.float64))
    edges = edge_map(data, spacing)
    weight = inside.astype(np.float32)
    best: tuple[float, Similarity, float, np.ndarray] | None = None
    for blur in _BLURS:
        smooth = edges
        if blur:
            widths = [blur / s for s in spacing]
            share = ndimage.gaussian_filter(weight, widths)
            smooth = ndimage.gaussian_filter(edges * weight, widths) / np.maximum(share, 1e-6)
        alike = compare_maps(strength, smooth, inside)
        height = -1.0 if alike.spearman is None else alike.spearman
        if best is None or height > best[0]:
            best = height, alike, blur, smooth
    _, alike, blur, smooth = best
    flat = np.flatnonzero(inside)
    chosen = np.random.default_rng(seed).permutation(len(flat))[:_PLOTTED]
    ranks = [
        (rankdata(values.ravel()[flat])[chosen] / len(flat)).astype(np.float32)
        for values in (strength, smooth)
    ]
    return EdgeControl(alike, blur, *ranks)
