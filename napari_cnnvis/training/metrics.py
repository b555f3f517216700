"""How well a classifier does on scans that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["classification_metrics", "mean_and_deviation"]


def classification_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Scores of predictions, by scikit-learn.

    Parameters
    ----------
    labels : array of int, shape (n,)
    probabilities : array, shape (n, classes)
        Rows add up to 1.

    Returns
    -------
    dict
        "accuracy", "balanced accuracy", "AUC" (of the second class of two; the mean over
        all pairs of classes for more [1]_), "log loss", "Brier" (mean squared difference
        to the truth, summed over the classes), and for two classes "sensitivity" and
        "specificity" (the second class is the positive one). NaN where a score needs more
        than one class among the labels.

    References
    ----------
    .. [1] D. J. Hand, R. J. Till, "A simple generalisation of the area under the ROC
       curve for multiple class classification problems", Machine Learning 45, 2001.
    """
    from sklearn.metrics import (
        accuracy_score,
        balanced_accuracy_score,
        log_loss,
        recall_score,
        roc_auc_score,
    )

    labels = np.asarray(labels)
    probabilities = np.asarray(probabilities, dtype=np.float64)
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    classes = np.arange(probabilities.shape[1])
    chosen = probabilities.argmax(axis=1)
    every = len(np.unique(labels)) == len(classes)
    if not every:
        auc = np.nan
    elif len(classes) == 2:
        auc = roc_auc_score(labels, probabilities[:, 1])
    else:
        auc = roc_auc_score(labels, probabilities, multi_class="ovo", labels=classes)
    wrong = probabilities - np.eye(len(classes))[labels]
    scores = {
        "accuracy": accuracy_score(labels, chosen),
        "balanced accuracy": balanced_accuracy_score(labels, chosen) if every else np.nan,
        "AUC": auc,
        "log loss": log_loss(labels, probabilities, labels=classes),
        "Brier": np.square(wrong).sum(axis=1).mean(),
    }
    if len(classes) == 2:
        both = recall_score(labels, chosen, labels=classes, average=None, zero_division=np.nan)
        scores["specificity"], scores["sensitivity"] = both
    return {name: float(value) for name, value in scores.items()}


def mean_and_deviation(scores: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation (n - 1) over folds, NaN left out."""
    result = {}
    for name in scores[0]:
        values = np.array([one[name] for one in scores], dtype=float)
        values = values[np.isfinite(values)]
        mean = float(values.mean()) if values.size else np.nan
        result[name] = (mean, float(values.std(ddof=1)) if values.size > 1 else 0.0)
    return result
