"""Stratified repeated k-fold cross-validation in which no subject straddles folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_cnnvis.errors import MethodError

__all__ = ["Fold", "make_folds"]


@dataclass(frozen=True, eq=False)
class Fold:
    """One split of a study's scans.

    Attributes
    ----------
    repeat, number : int
        From 1.
    train, validation, test : array of int
        Indices of scans; they have no subject in common.
    """

    repeat: int
    number: int
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @property
    def name(self) -> str:
        """What its folder is called."""
        return f"repeat-{self.repeat}-fold-{self.number}"


def make_folds(
    labels: Sequence[int],
    subjects: Sequence[str],
    folds: int = 5,
    repeats: int = 5,
    seed: int = 0,
    validation: float = 0.0,
) -> list[Fold]:
    """Split scans into `folds` parts, `repeats` times over; the same seed gives the same parts.

    Parameters
    ----------
    labels : sequence of int
        The class of each scan: every part has about the same share of each.
    subjects : sequence of str
        Whose scan each is: all of a subject's are in one part.
    folds, repeats, seed : int
    validation : float
        About which share of the scans that are not tested on is kept apart.

    Raises
    ------
    MethodError
        If a class has fewer subjects than there are parts.
    """
    if folds < 2 or repeats < 1:
        raise MethodError(
            f"{folds} folds repeated {repeats} times are not possible; give 2 or more folds and "
            "1 or more repeats."
        )
    labels, subjects = np.asarray(labels), np.asarray(subjects)
    fewest = min(len(set(subjects[labels == label])) for label in set(labels.tolist()))
    kept = round(1 / validation) if validation else 0
    if fewest < folds or fewest - -(-fewest // folds) < min(kept, 2):
        raise MethodError(
            f"A class has only {fewest} subjects, too few for {folds} folds; take fewer folds or "
            "more scans."
        )
    result = []
    for repeat in range(repeats):
        parts = _split(labels, subjects, folds, seed + repeat)
        for number, (rest, test) in enumerate(parts, start=1):
            train, validate = rest, rest[:0]
            if kept:
                few = min(len(set(subjects[rest][labels[rest] == c])) for c in set(labels.tolist()))
                inner = _split(labels[rest], subjects[rest], min(kept, few), seed + repeat)
                kept_in, kept_out = inner[0]
                train, validate = rest[kept_in], rest[kept_out]
            result.append(Fold(repeat + 1, number, train, validate, test))
    return result


def _split(
    labels: np.ndarray, subjects: np.ndarray, parts: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if len(set(subjects)) == len(subjects):
        splits = StratifiedKFold(parts, shuffle=True, random_state=seed).split(labels, labels)
    else:
        grouped = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
        splits = grouped.split(labels, labels, subjects)
    return list(splits)
