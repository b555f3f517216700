"""Does a map find a region that is known to matter?"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from napari_cnnvis.errors import MethodError

__all__ = ["roc_auc"]


def roc_auc(values: np.ndarray, truth: np.ndarray, inside: np.ndarray | None = None) -> float:
    """Area under the ROC curve of a map against a region, ties counted half.

    Parameters
    ----------
    values : array
        The map, signed; higher should mean "in the region".
    truth : array of bool, same shape
        The region.
    inside : array of bool, same shape, optional
        The voxels that count, such as the brain; all by default.

    Returns
    -------
    float
        1 if the region has the highest values, 0.5 for chance, below if upside down.

    Raises
    ------
    MethodError
        If the region is empty or fills everything that counts.
    """
    inside = np.ones(truth.shape, bool) if inside is None else np.asarray(inside, bool)
    chosen = np.asarray(truth, bool)[inside]
    positives = int(chosen.sum())
    negatives = chosen.size - positives
    if not positives or not negatives:
        raise MethodError("The region is empty, or fills all voxels that count; no AUC exists.")
    ranks = rankdata(np.asarray(values)[inside])
    return float((ranks[chosen].sum() - positives * (positives + 1) / 2) / (positives * negatives))
