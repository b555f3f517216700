"""Does a map differ from those of the other classes?"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_cnnvis.evaluate.trust.similarity import Similarity, compare_maps
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.models.outputs import Outputs
from napari_cnnvis.progress import Progress

__all__ = ["ClassContrast", "ContrastRow", "class_contrast", "negatives_by_construction", "overlap"]

#: other classes that are compared at most, the most probable ones
_MOST = 3


@dataclass(frozen=True)
class ContrastRow:
    """The map of another class beside that of the target.

    Attributes
    ----------
    class_name : str
    similarity : Similarity
    overlap : float or None
        Share of the positive parts that both have in common, 0 to 1; None if one map has
        no positive part.
    """

    class_name: str
    similarity: Similarity
    overlap: float | None

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {"class": self.class_name, "overlap": self.overlap, **self.similarity.to_dict()}


@dataclass(frozen=True)
class ClassContrast:
    """The target's map beside those of other classes.

    Attributes
    ----------
    rows : tuple of ContrastRow
        The most probable other classes; none if `by_construction`.
    by_construction : bool
        The maps are each other's negatives (and with ReLU have nothing in common) whatever
        the network learned, so that they are no evidence.
    """

    rows: tuple[ContrastRow, ...]
    by_construction: bool

    @property
    def closest(self) -> ContrastRow | None:
        """The other class whose map is most like the target's."""
        known = [row for row in self.rows if row.similarity.spearman is not None]
        return max(known, key=lambda row: row.similarity.spearman, default=None)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "by_construction": self.by_construction,
            "rows": [row.to_dict() for row in self.rows],
        }


def negatives_by_construction(outputs: Outputs, request: ExplainRequest) -> bool:
    """Whether the maps of the two targets are each other's negatives, whatever was learned.

    So they are where two targets share an output, and for probabilities (and, as what
    drops in one rises in the other, their drops) of two classes.
    """
    if outputs.signed:
        return True
    if outputs.kind != "softmax" or outputs.n != 2 or request.method == "cam":
        return False
    score = getattr(request.how, "score", "")
    return score == "probability" or (score == "log_prob" and not request.how.occludes)


def overlap(a: np.ndarray, b: np.ndarray) -> float | None:
    """What the positive parts of two maps share, each with a sum of 1: sum(min(a, b))."""
    a, b = (np.maximum(np.asarray(x, np.float64), 0) for x in (a, b))
    if not a.sum() or not b.sum():
        return None
    return float(np.minimum(a / a.sum(), b / b.sum()).sum())


def class_contrast(
    outputs: Outputs,
    class_names: tuple[str, ...],
    request: ExplainRequest,
    target: int,
    map_: np.ndarray,
    map_of: Callable[[ExplainRequest], np.ndarray | None],
    predictions: np.ndarray,
    inside: np.ndarray,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
) -> ClassContrast | None:
    """Compare the target's map with those of the other classes.

    Parameters
    ----------
    outputs : Outputs
    class_names : tuple of str
    request : ExplainRequest
        What made the map.
    target : int
    map_ : array, shape (i, j, k)
    map_of : callable
        The map of a request for another class, or None if it was cancelled.
    predictions : array, shape (n_classes,)
        Which other classes are taken: the most probable.
    inside : array of bool, shape (i, j, k)
    progress, cancel
        As in `sensitivity`.

    Returns
    -------
    ClassContrast, or None if cancelled
    """
    if negatives_by_construction(outputs, request):
        return ClassContrast((), True)
    others = [int(c) for c in np.argsort(-predictions) if c != target][:_MOST]
    rows = []
    for number, other in enumerate(others):
        if cancel is not None and cancel.is_set():
            return None
        found = map_of(request.replaced(other))
        if found is None:
            return None
        alike = compare_maps(map_, found, inside)
        rows.append(ContrastRow(class_names[other], alike, overlap(map_[inside], found[inside])))
        if progress is not None:
            progress(Progress(number + 1, len(others), "explaining other classes"))
    return ClassContrast(tuple(rows), False)
