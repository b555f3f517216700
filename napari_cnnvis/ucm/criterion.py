"""What merging two neighbouring regions costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import expit
from skimage.filters import threshold_multiotsu

from napari_cnnvis.ucm.region_graph import RegionGraph

__all__ = ["MergeCriterion"]

#: how wide the steps between tissues are, as a share of the intensities' 99th percentile
_STEP_WIDTH = 0.013


@dataclass(frozen=True)
class MergeCriterion:
    """Cost of a merge: how unlike two regions are, and how large.

    ``(V W / (V + W))^balance * (d_feature^2 + boundary^2 s^2 + position^2 r^2)``

    V and W are the regions' volumes, d_feature the difference of their mean features, s
    the mean boundary strength on the faces that they share, and r the distance of their
    centres, which counts less and less beyond `reach`: ``r^2 = d^2 / (1 + d^2 / reach^2)``.
    With ``balance = 1`` and no boundary that is Ward's criterion (J. Am. Stat. Assoc.
    1963); more makes sizes more even. The feature of a voxel is its intensity plus two
    steps, midway between the means of three classes of the head's intensities (Otsu, 1979),
    so that what lies within one tissue merges before tissues do. The defaults
    were found by experiment (tests/benchmarks/supervoxels.py).

    Attributes
    ----------
    intensity : float
        Weight of the intensity (divided by its 99th percentile in the head).
    low_step, high_step : float
        Heights of the steps at the lower and the upper threshold.
    boundary : float
        Weight of the boundary strength.
    position : float
        Weight of one millimetre.
    reach : float
        Distance in millimetres from which on being farther away matters little.
    balance : float
        Exponent of the sizes.
    """

    intensity: float = 0.65
    low_step: float = 0.065
    high_step: float = 0.38
    boundary: float = 3.1
    position: float = 0.0093
    reach: float = 40.0
    balance: float = 1.4

    def feature(self, data: np.ndarray, head: np.ndarray) -> np.ndarray:
        """The feature of each voxel, float32, from intensities whose 99th percentile is 1."""
        calm = ndimage.median_filter(data, footprint=ndimage.generate_binary_structure(3, 1))
        values = self.intensity * calm
        for height, threshold in zip(
            (self.low_step, self.high_step), _thresholds(data[head]), strict=False
        ):
            values += height * expit((calm - threshold) / _STEP_WIDTH)
        return values.astype(np.float32)

    def __call__(self, graph: RegionGraph) -> np.ndarray:
        """Cost of merging each pair of a graph whose features are `feature`, i, j, k in mm."""
        a, b = graph.pairs
        feature, *centre = graph.means
        distance = sum((x[a] - x[b]) ** 2 for x in centre)
        unlike = (
            (feature[a] - feature[b]) ** 2
            + (self.boundary * graph.strength / graph.contact) ** 2
            + self.position**2 * distance / (1 + distance / self.reach**2)
        )
        v, w = graph.sizes[a], graph.sizes[b]
        return (v * w / (v + w)) ** self.balance * unlike


def _thresholds(values: np.ndarray) -> np.ndarray:
    """Midway between the means of three classes of intensities; none if there are too few."""
    try:
        edges = threshold_multiotsu(values, classes=3)
    except ValueError:  # fewer than three values
        return np.empty(0)
    of = np.digitize(values, edges, right=True)
    counts = np.bincount(of)
    there = counts > 0  # of a few values some classes can be empty
    means = np.bincount(of, values)[there] / counts[there]
    return (means[1:] + means[:-1]) / 2
