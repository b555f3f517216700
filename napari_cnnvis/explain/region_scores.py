"""The scores of a hierarchy's regions, and the maps that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.options import QUANTITIES, check_choice
from napari_cnnvis.explain.scores import score_of
from napari_cnnvis.ucm.hierarchy import Hierarchy

__all__ = ["RegionScores"]


@dataclass(frozen=True, eq=False)
class RegionScores:
    """What the network said with each region occluded, kept per node of the tree.

    Other classes, scores, quantities and level weights give other maps without
    running the network again.

    Attributes
    ----------
    hierarchy : Hierarchy
    levels : array, int64, shape (n_levels, n_leaves)
        The levels that were scored: for each, the node of each leaf.
    clean : array, float32, shape (n_classes,)
        Logits of the volume as it is.
    occluded : array, float32, shape (n_nodes, n_classes)
        Logits with a node's region occluded; NaN where it was not (yet) scored.
    """

    hierarchy: Hierarchy
    levels: np.ndarray
    clean: np.ndarray
    occluded: np.ndarray

    def values(self, target: int, quantity: str = "drop", score: str = "probability") -> np.ndarray:
        """One value for each node, shape (n_nodes,); NaN where not scored.

        "drop" is score(x) - score(x'), positive where the region supports the class;
        "probability" is the score of x' itself, as in the reference.

        Raises
        ------
        MethodError
            If the quantity is neither.
        """
        check_choice(quantity, QUANTITIES, "a quantity")
        logits = torch.from_numpy(np.vstack([self.clean, self.occluded])).double()
        scores = score_of(logits, target, score).numpy()
        return scores[0] - scores[1:] if quantity == "drop" else scores[1:]

    def map(
        self,
        target: int,
        quantity: str = "drop",
        score: str = "probability",
        level_weights: np.ndarray | None = None,
    ) -> np.ndarray:
        """The map: for each voxel the mean over the levels of its regions' values.

        Levels on which a voxel's region was not scored do not count for it.

        Parameters
        ----------
        target : int
        quantity : {"drop", "probability"}
        score : {"logit", "log_prob", "probability"}
        level_weights : array, shape (n_levels,), optional
            Weights of the mean; all 1 by default.

        Returns
        -------
        array, float32, shape of the hierarchy's volume
            0 for background.
        """
        weights = np.ones(len(self.levels)) if level_weights is None else np.asarray(level_weights)
        if weights.shape != (len(self.levels),) or (weights < 0).any() or not weights.any():
            raise MethodError(
                f"Give one weight of 0 or more for each of the {len(self.levels)} levels."
            )
        values = self.values(target, quantity, score)[self.levels]
        counting = weights[:, None] * np.isfinite(values)
        total = (counting * np.nan_to_num(values)).sum(0)
        of_leaf = total / np.maximum(counting.sum(0), 1e-300)
        return np.concatenate([[0], of_leaf]).astype(np.float32)[self.hierarchy.leaves]
