"""What is known of each region of a hierarchy: volume, mean intensity, altitude, drop."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis.scan.volume import Volume
from napari_cnnvis.ucm.hierarchy import Hierarchy

__all__ = ["Drops", "RegionFacts", "find_drops"]


@dataclass(frozen=True, eq=False)
class Drops:
    """How much the score of a class drops without a region.

    Attributes
    ----------
    class_name : str
    values : array, shape (n_nodes,)
        NaN where it was not scored.
    """

    class_name: str
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class RegionFacts:
    """Facts of every node of a hierarchy on a scan.

    Attributes
    ----------
    hierarchy : Hierarchy
    volume : array, shape (n_nodes,)
        In mm3.
    mean : array, shape (n_nodes,)
        Mean intensity of the scan.
    count : array of int, shape (n_nodes,)
        Number of regions of the finest cut that has the node.
    """

    hierarchy: Hierarchy
    volume: np.ndarray
    mean: np.ndarray
    count: np.ndarray

    @classmethod
    def of(cls, hierarchy: Hierarchy, volume: Volume) -> RegionFacts:
        """The facts of a hierarchy on its scan.

        Raises
        ------
        VolumeError
            If they differ in shape.
        """
        means = hierarchy.node_means(volume.data)
        millimetres = hierarchy.sizes * abs(float(np.linalg.det(volume.affine[:3, :3])))
        return cls(hierarchy, millimetres, means, _counts(hierarchy))

    def features(self, nodes: np.ndarray, drops: Drops | None) -> dict[str, np.ndarray]:
        """The features table of a Labels layer whose labels are ``nodes + 1``."""
        table = {
            "index": nodes + 1,
            "volume_mm3": self.volume[nodes],
            "mean_intensity": self.mean[nodes],
            "altitude": self.hierarchy.altitudes[nodes],
        }
        if drops is not None:
            table["drop"] = drops.values[nodes]
        return table


def find_drops(layers: Iterable[Any], hierarchy: Hierarchy) -> Drops | None:
    """The drops of the topmost sensitivity map that was made with this hierarchy, if any.

    They are those of the class, the score and the baseline that the map shows; a
    visible map comes before hidden ones.
    """
    pairs = [(layer.visible, map_of(layer)) for layer in layers]
    made = [(seen, map_) for seen, map_ in pairs if map_ and map_.hierarchy is hierarchy]
    if not made:
        return None
    chosen = max(enumerate(made), key=lambda pair: (pair[1][0], pair[0]))[1][1]
    scores, shown = chosen.scores, chosen.provenance
    baseline = shown.get("shown")
    values = scores.values(
        shown["class"],
        "drop",
        shown["score"],
        baseline if baseline in scores.baselines else None,
    )
    return Drops(shown["class_name"], values)


def _counts(hierarchy: Hierarchy) -> np.ndarray:
    """For each node the number of regions of the finest cut that has it."""
    n = hierarchy.n_leaves
    merging = hierarchy.parents[hierarchy.parents != np.arange(hierarchy.n_nodes)]
    children = np.bincount(merging, minlength=hierarchy.n_nodes)[n:]
    order = np.argsort(hierarchy.altitudes[n:], kind="stable")
    remaining = n - np.cumsum(children[order] - 1)
    if (children != 2).any():  # nodes that one level made come together
        heights = hierarchy.altitudes[n:][order]
        remaining = remaining[np.searchsorted(heights, heights, side="right") - 1]
    counts = np.full(hierarchy.n_nodes, n)
    counts[n + order] = remaining
    return counts
