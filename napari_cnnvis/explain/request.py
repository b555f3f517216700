"""The methods, the choices their parameters have, and a run request; no torch is needed here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from napari_cnnvis.errors import MethodError
from napari_cnnvis.scan.volume import Volume

__all__ = [
    "ALIGNMENTS",
    "BASELINES",
    "BOX_SIZE",
    "BOX_STRIDE",
    "DISAGREEMENT",
    "ENGINES",
    "GRADIENT",
    "JOINS",
    "METHODS",
    "OCCLUDING",
    "PRECISIONS",
    "QUANTITIES",
    "SCORES",
    "ExplainRequest",
    "baseline_names",
    "check_baselines",
    "check_choice",
    "check_margin",
    "check_time_budget",
    "check_voxels",
]

#: the methods and how they are called in the viewer
METHODS = {
    "cam": "CAM",
    "grad-cam": "Grad-CAM",
    "grad-cam++": "Grad-CAM++",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    "sensitivity": "UCM sensitivity",
    "box": "Box occlusion",
}
#: those that weight a layer's maps by the score's gradient; all from one pass
GRADIENT = ("grad-cam", "grad-cam++", "hirescam", "layercam")
#: those that replace voxels by a baseline
OCCLUDING = ("sensitivity", "box")
#: asks for how far the baselines' maps lie apart instead of one of them
DISAGREEMENT = "disagreement"
#: the number that is explained
SCORES = ("logit", "log_prob", "probability")
#: what sensitivity maps: how far the score drops, how far it moves in either direction, or
#: the score with the region occluded
QUANTITIES = ("drop", "absolute", "probability")
#: "stretch" spreads a layer's cells evenly over the input, as other tools do;
#: "receptive field" puts each cell where its receptive field is centred
ALIGNMENTS = ("stretch", "receptive field")
#: baselines by name, and what an occluded voxel becomes; a number and a volume do, too
BASELINES = {
    "blur": "the scan without detail (12 mm)",
    "border": "the mean of the voxels around the region",
    "noise": "noise with the head's mean and deviation",
}
#: how the values of a voxel's regions on the levels are joined
JOINS = {
    "mean": "mean over the levels",
    "size-aware": "mean, small regions more",
    "strongest": "the strongest on any level",
}
#: how occluded volumes are scored
ENGINES = ("auto", "incremental", "full")
#: "half" is float16 on a GPU and bfloat16 on a CPU
PRECISIONS = ("single", "half")
#: voxels of a box's side and between boxes, in all places
BOX_SIZE, BOX_STRIDE = 7, 2
#: what an occluded voxel can become
Baseline = float | str | Volume


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


def check_voxels(value: int, what: str) -> int:
    """`value` itself.

    Raises
    ------
    MethodError
        If it is not a whole number of 1 or more.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < 1:
        raise MethodError(f"A {what} of {value!r} is not possible; give 1, 2, 3, ... voxels.")
    return value


def check_time_budget(value: float | None) -> float | None:
    """`value` itself.

    Raises
    ------
    MethodError
        If it is neither None nor a number above 0.
    """
    number = isinstance(value, int | float | np.number)
    if value is not None and not (number and value > 0):
        raise MethodError(f"A time budget of {value!r} is not a number of seconds above 0.")
    return value


def check_margin(value: float, what: str = "margin") -> float:
    """`value` itself.

    Raises
    ------
    MethodError
        If it is not a finite number of at least 0.
    """
    if not isinstance(value, int | float | np.number) or not 0 <= value < np.inf:
        raise MethodError(f"A {what} of {value!r} is not a number of millimetres from 0 on.")
    return value


def check_baselines(baseline: Baseline | Sequence[Baseline]) -> tuple[Baseline, ...]:
    """One baseline or several, as a tuple; numbers as floats.

    Raises
    ------
    MethodError
        If one is neither a number, a name nor a volume, or there is none, or one twice.
    """
    given = list(baseline) if isinstance(baseline, list | tuple) else [baseline]
    checked = tuple(_check_baseline(b) for b in given)
    names = baseline_names(checked)
    if not names:
        raise MethodError("Choose at least one baseline, such as 'blur'.")
    for name in names:
        if names.count(name) > 1:
            raise MethodError(f"The baseline '{name}' is given twice; give each once.")
    return checked


def baseline_names(baselines: Sequence[Baseline]) -> tuple[str, ...]:
    """What baselines are called: "blur", "0", a volume's name."""
    return tuple(
        b if isinstance(b, str) else f"{b:g}" if isinstance(b, float) else b.name for b in baselines
    )


def _check_baseline(baseline: Baseline) -> Baseline:
    if isinstance(baseline, Volume) or (isinstance(baseline, str) and baseline in BASELINES):
        return baseline
    try:
        value = float(baseline)
    except (TypeError, ValueError):
        value = np.nan
    if not np.isfinite(value):
        names = ", ".join(f"'{name}'" for name in BASELINES)
        plain = isinstance(baseline, str | int | float)
        given = f"'{baseline}'" if plain else f"A value of type {type(baseline).__name__}"
        raise MethodError(
            f"{given} is not a baseline; use {names}, a number such as 0, or a volume."
        )
    return value


@dataclass(frozen=True)
class ExplainRequest:
    """What to run: a method and its parameters; a parameter a method does not have is ignored.

    Parameters
    ----------
    method : {"cam", "grad-cam", "grad-cam++", "hirescam", "layercam", "sensitivity", "box"}
    target : int or str
        The class to explain, by index or name.
    layer : str, optional
        Target layer of Grad-CAM and its variants; the recommended one by default; "all" for
        every layer.
    relu : bool
        Grad-CAM and its variants keep only what supports the class.
    score : {"logit", "log_prob", "probability"}, optional
        By default "probability" for sensitivity and boxes, else "logit".
    alignment : {"stretch", "receptive field"}
        Where CAM and Grad-CAM put a layer's cells.
    baseline : float, "blur", "border", "noise", Volume, or several of them
        What sensitivity and box occlusion replace voxels by.
    quantity : {"drop", "absolute", "probability"}
        What sensitivity and box occlusion map.
    finest : int, optional
        Number of regions on sensitivity's finest level; the hierarchy's own levels by
        default.
    join : {"mean", "size-aware", "strongest"}
        How sensitivity joins the levels.
    margin : float
        Millimetres that sensitivity's regions grow by before they are occluded.
    smooth : float
        Millimetres (full width at half maximum) by which maps of sensitivity and boxes
        are smoothed.
    size, stride : int
        Voxels along a box's side, and between boxes.
    time_budget : float, optional
        Seconds after which sensitivity and box occlusion stop with the map so far.
    precision : {"single", "half"}

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
    baseline: Baseline | Sequence[Baseline] = "blur"
    quantity: str = "drop"
    finest: int | None = None
    join: str = "mean"
    margin: float = 0.0
    smooth: float = 0.0
    size: int = BOX_SIZE
    stride: int = BOX_STRIDE
    time_budget: float | None = None
    precision: str = "single"

    def __post_init__(self) -> None:
        check_choice(self.method, METHODS, "a method")
        check_choice(self.alignment, ALIGNMENTS, "an alignment")
        check_choice(self.quantity, QUANTITIES, "a quantity")
        check_choice(self.join, JOINS, "a way to join levels")
        check_choice(self.precision, PRECISIONS, "a precision")
        check_baselines(self.baseline)
        check_margin(self.margin)
        check_margin(self.smooth, "smoothing")
        check_voxels(self.size, "box size")
        check_voxels(self.stride, "stride")
        check_time_budget(self.time_budget)
        if self.finest is not None and self.finest < 1:
            raise MethodError(f"{self.finest} regions are too few; use 1 or more.")
        if self.score is None:
            default = "probability" if self.method in OCCLUDING else "logit"
            object.__setattr__(self, "score", default)
        check_choice(self.score, SCORES, "a score")
