"""The scores of occluded regions, and the maps that follow from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.common_parameters import JOINS, QUANTITIES, SCORES
from napari_cnnvis.explain.parameter import check_choice
from napari_cnnvis.models.outputs import Outputs
from napari_cnnvis.ucm.hierarchy import Hierarchy

__all__ = ["OcclusionScores", "RegionScores"]


@dataclass(frozen=True, eq=False)
class OcclusionScores(ABC):
    """What the network said with each region occluded.

    Other classes, scores and quantities give other maps without running the
    network again.

    Attributes
    ----------
    clean : array, float32, shape (n_outputs,)
        Raw outputs for the volume as it is.
    occluded : array, float32, shape (n_baselines, n_regions, n_outputs)
        Raw outputs with a region occluded; NaN where it was not (yet) scored.
    baselines : tuple of str
        What the regions were replaced by.
    outputs : Outputs
        What the network's outputs mean.
    """

    clean: np.ndarray
    occluded: np.ndarray
    baselines: tuple[str, ...]
    outputs: Outputs

    def values(
        self,
        target: int,
        quantity: str = "drop",
        score: str = "probability",
        baseline: str | None = None,
    ) -> np.ndarray:
        """One value for each region, shape (n_regions,); NaN where not scored.

        "drop" is score(x) - score(x'), positive where the region supports the class;
        "absolute" is its size, of each baseline by itself; "probability" is the score of
        x' itself, as in the reference.

        Parameters
        ----------
        target : int
        quantity : {"drop", "absolute", "probability"}
        score : {"logit", "log_prob", "probability"}
        baseline : str, optional
            One of ``baselines``; the mean over all of them by default.

        Raises
        ------
        MethodError
            If there is no such option or baseline.
        """
        check_choice(quantity, QUANTITIES, "a quantity")
        check_choice(score, SCORES, "a score")
        chosen = self.occluded
        if baseline is not None:
            check_choice(baseline, self.baselines, "one of this run's baselines")
            chosen = chosen[[self.baselines.index(baseline)]]
        n_outputs = len(self.clean)
        logits = torch.from_numpy(np.vstack([self.clean, chosen.reshape(-1, n_outputs)])).double()
        scores = self.outputs.score(logits, target, score).numpy()
        values = scores[1:] if quantity == "probability" else scores[0] - scores[1:]
        if quantity == "absolute":
            values = np.abs(values)
        values = values.reshape(chosen.shape[:2])
        known = np.isfinite(values)
        total = np.where(known, values, 0).sum(0)
        with np.errstate(invalid="ignore"):
            return total / np.where(known.any(0), known.sum(0), np.nan)

    @abstractmethod
    def map(self, *args: Any, **how: Any) -> np.ndarray:
        """The map of these values, float32; arguments begin as those of `values`."""

    @abstractmethod
    def covered(self) -> np.ndarray:
        """Where the map has values: bool, shape of the scan."""

    def disagreement(
        self, target: int, quantity: str = "drop", score: str = "probability", **how: Any
    ) -> np.ndarray:
        """How much the baselines' maps differ: largest minus smallest value of each voxel.

        Where it is as large as the map itself, what the map says is the baseline's doing.
        Regions count that were scored with every baseline.

        Raises
        ------
        MethodError
            If there was one baseline only.
        """
        if len(self.baselines) < 2:
            raise MethodError("Run with two or more baselines to see how much they disagree.")
        known = np.isfinite(self.occluded[..., 0]).all(axis=0)  # with every baseline
        both = replace(self, occluded=np.where(known[None, :, None], self.occluded, np.nan))
        maps = [both.map(target, quantity, score, name, **how) for name in self.baselines]
        return np.ptp(maps, axis=0)


@dataclass(frozen=True, eq=False)
class RegionScores(OcclusionScores):
    """The scores of a hierarchy's regions; ``n_regions`` is the number of its nodes.

    Attributes
    ----------
    hierarchy : Hierarchy
    levels : array, int64, shape (n_levels, n_leaves)
        The levels that were scored: for each, the node of each leaf.
    """

    hierarchy: Hierarchy
    levels: np.ndarray

    def map(
        self,
        target: int,
        quantity: str = "drop",
        score: str = "probability",
        baseline: str | None = None,
        join: str = "mean",
        level_weights: Sequence[float] | None = None,
    ) -> np.ndarray:
        """The map: for each voxel its regions' values, joined over the levels.

        Levels on which a voxel's region was not scored do not count for it.

        Parameters
        ----------
        target, quantity, score, baseline
            As in `values`.
        join : {"mean", "size-aware", "strongest"}
            The mean over the levels (as in the reference); the mean weighted by
            1 / sqrt(voxels of the region), so that small regions count for more; or
            the value on the level where the score drops or rises most.
        level_weights : array, shape (n_levels,), optional
            Weights of the levels; all 1 by default. The strongest is sought among
            levels with a weight above 0.

        Returns
        -------
        array, float32, shape of the hierarchy's volume
            0 for background.
        """
        check_choice(join, JOINS, "a way to join levels")
        weights = np.ones(len(self.levels)) if level_weights is None else np.asarray(level_weights)
        if weights.shape != (len(self.levels),) or (weights < 0).any() or not weights.any():
            raise MethodError(
                f"Give one weight of 0 or more for each of the {len(self.levels)} levels."
            )
        values = self.values(target, quantity, score, baseline)[self.levels]
        counting = weights[:, None] * np.isfinite(values)
        values = np.nan_to_num(values)
        if join == "strongest":
            drops = np.abs(np.nan_to_num(self.values(target, "drop", score, baseline)))
            strength = np.where(counting > 0, drops[self.levels], -1)
            best = strength.argmax(0)[None]
            of_leaf = np.take_along_axis(values * (counting > 0), best, 0)[0]
        else:
            if join == "size-aware":
                counting = counting / np.sqrt(self.hierarchy.sizes[self.levels])
            of_leaf = (counting * values).sum(0) / np.maximum(counting.sum(0), 1e-300)
        return np.concatenate([[0], of_leaf]).astype(np.float32)[self.hierarchy.leaves]

    def covered(self) -> np.ndarray:
        """Where the map has values: bool, shape of the scan."""
        return self.hierarchy.leaves > 0
