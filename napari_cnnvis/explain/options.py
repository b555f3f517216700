"""The methods, the choices their parameters have, and a run request; no torch is needed here."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from napari_cnnvis.errors import MethodError

__all__ = [
    "ALIGNMENTS",
    "METHODS",
    "QUANTITIES",
    "SCORES",
    "ExplainRequest",
    "check_baseline",
    "check_choice",
]

#: the methods and how they are called in the viewer
METHODS = {"cam": "CAM", "grad-cam": "Grad-CAM", "sensitivity": "UCM sensitivity"}
#: the number that is explained
SCORES = ("logit", "log_prob", "probability")
#: what sensitivity maps: how far the score drops, or the score with the region occluded
QUANTITIES = ("drop", "probability")
#: "stretch" spreads a layer's cells evenly over the input, as other tools do;
#: "receptive field" puts each cell where its receptive field is centred
ALIGNMENTS = ("stretch", "receptive field")


def check_choice(value: str, choices: Collection[str], what: str) -> str:
    """`value` itself.

    Raises
    ------
    MethodError
        If it is not one of `choices`; the text names `what` it should be.
    """
    if value not in choices:
        raise MethodError(f"'{value}' is not {what}; use one of {', '.join(choices)}.")
    return value


def check_baseline(baseline: float | str) -> float | str:
    """`baseline` itself, as a number where it is one.

    Raises
    ------
    MethodError
        If it is neither a number nor "blur".
    """
    if baseline == "blur":
        return "blur"
    try:
        value = float(baseline)
    except (TypeError, ValueError):
        value = np.nan
    if not np.isfinite(value):
        raise MethodError(f"'{baseline}' is not a baseline; use 'blur' or a number such as 0.")
    return value


@dataclass(frozen=True)
class ExplainRequest:
    """What to run: a method and its parameters; a parameter a method does not have is ignored.

    Parameters
    ----------
    method : {"cam", "grad-cam", "sensitivity"}
    target : int or str
        The class to explain, by index or name.
    layer : str, optional
        Grad-CAM's target layer; the recommended one by default; "all" for every layer.
    relu : bool
        Grad-CAM keeps only what supports the class.
    score : {"logit", "log_prob", "probability"}, optional
        By default "logit" for Grad-CAM and "probability" for sensitivity.
    alignment : {"stretch", "receptive field"}
        Where CAM and Grad-CAM put a layer's cells.
    baseline : float or "blur"
        What sensitivity replaces a region by.
    quantity : {"drop", "probability"}
        What sensitivity maps.
    finest : int, optional
        Number of regions on sensitivity's finest level; the hierarchy's own levels by
        default.

    Raises
    ------
    MethodError
        If a value is not one of these.
    """

    method: str
    target: int | str
    layer: str | None = None
    relu: bool = True
    score: str | None = None
    alignment: str = "stretch"
    baseline: float | str = "blur"
    quantity: str = "drop"
    finest: int | None = None

    def __post_init__(self) -> None:
        check_choice(self.method, METHODS, "a method")
        check_choice(self.alignment, ALIGNMENTS, "an alignment")
        check_choice(self.quantity, QUANTITIES, "a quantity")
        check_baseline(self.baseline)
        if self.finest is not None and self.finest < 1:
            raise MethodError(f"{self.finest} regions are too few; use 1 or more.")
        if self.score is None:
            default = "probability" if self.method == "sensitivity" else "logit"
            object.__setattr__(self, "score", default)
        check_choice(self.score, SCORES, "a score")
