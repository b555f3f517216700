"""What a localisation benchmark runs: the methods, the controls and their settings; no torch here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.common_parameters import ALIGNMENTS, JOINS, SCORES
from napari_cnnvis.explain.inputs.input_method import InputMethod
from napari_cnnvis.explain.layers.gradient_method import GradientMethod
from napari_cnnvis.explain.methods.box import BoxOcclusion
from napari_cnnvis.explain.methods.cam import Cam
from napari_cnnvis.explain.methods.sensitivity import Sensitivity
from napari_cnnvis.explain.parameter import Baseline, check_baselines, check_choice
from napari_cnnvis.explain.registry import methods

__all__ = [
    "BENCHMARKED",
    "CONTROLS",
    "GRADIENT",
    "INPUT",
    "SLIC",
    "BenchmarkOptions",
    "parse_region",
]

#: occlusion of SLIC supervoxels, which only the benchmark has
SLIC = "slic"
#: maps that do not know the network; a method that is no better than they are finds nothing
CONTROLS = {
    "random": "Random",
    "depth": "Depth in the brain",
    "edges": "Edges of the scan",
}
#: Grad-CAM and its variants, by key
GRADIENT = {key: m for key, m in methods().items() if issubclass(m, GradientMethod)}
#: maps on the input's own voxels, by key
INPUT = {key: m for key, m in methods().items() if issubclass(m, InputMethod)}
_BOX, _REGIONS = BoxOcclusion.parameters(), Sensitivity.parameters()
#: what can be benchmarked, and how it is called
BENCHMARKED = {
    BoxOcclusion.key: BoxOcclusion.title,
    SLIC: "SLIC sensitivity",
    Sensitivity.key: Sensitivity.title,
    Cam.key: Cam.title,
    **{key: method.title for key, method in (GRADIENT | INPUT).items()},
    **CONTROLS,
}


@dataclass(frozen=True)
class BenchmarkOptions:
    """What to run; where several values are given, each makes maps of its own.

    Parameters
    ----------
    methods : sequence of str
        Of `BENCHMARKED`; all by default.
    size, stride : int
        Voxels along a side of the boxes, and between boxes.
    levels : sequence of int
        Numbers of regions of the levels of supervoxels, UCM and SLIC.
    margins : sequence of float
        Millimetres that supervoxels grow by before they are occluded.
    baselines : sequence of float, "blur", "border", "noise" or Volume
        What is occluded becomes this. Of several their mean is scored as well.
    joins : sequence of {"mean", "size-aware", "strongest"}
        How UCM sensitivity joins the levels.
    scores : sequence of {"probability", "logit", "log_prob"}
        The number whose drop is mapped.
    quantities : sequence of {"drop", "absolute"}
        What maps of occlusion and of the input's voxels hold: the drop, or its size; values with
        their sign, or their size.
    smooths : sequence of float
        Millimetres (full width at half maximum) by which these maps are smoothed.
    alignments : sequence of {"stretch", "receptive field"}
        Where CAM, Grad-CAM and its variants put a layer's cells.
    layers : sequence of str
        Target layers of Grad-CAM and its variants; all if empty.

    Raises
    ------
    MethodError
        If a value is not one of these, or nothing is left to run.
    """

    methods: Sequence[str] = tuple(BENCHMARKED)
    size: int = _BOX["size"].default
    stride: int = _BOX["stride"].default
    levels: Sequence[int] = (800, 400, 200, 100)
    margins: Sequence[float] = (6.0,)
    baselines: Sequence[Baseline] = ("blur",)
    joins: Sequence[str] = ("mean",)
    scores: Sequence[str] = ("probability",)
    quantities: Sequence[str] = ("drop",)
    smooths: Sequence[float] = (0.0,)
    alignments: Sequence[str] = ("stretch",)
    layers: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, choices, what in (
            ("methods", BENCHMARKED, "a method"),
            ("joins", JOINS, "a way to join levels"),
            ("scores", SCORES, "a score"),
            ("quantities", ("drop", "absolute"), "a quantity"),
            ("alignments", ALIGNMENTS, "an alignment"),
        ):
            object.__setattr__(self, name, _several(getattr(self, name), choices, what))
        object.__setattr__(self, "baselines", check_baselines(list(self.baselines)))
        object.__setattr__(self, "layers", tuple(self.layers))
        _BOX["size"].checked(self.size)
        _BOX["stride"].checked(self.stride)
        margins = tuple(_REGIONS["margin"].checked(margin) for margin in self.margins)
        object.__setattr__(self, "margins", tuple(dict.fromkeys(margins)))
        smooths = tuple(_REGIONS["smooth"].checked(smooth) for smooth in self.smooths)
        object.__setattr__(self, "smooths", tuple(dict.fromkeys(smooths)) or (0.0,))
        levels = sorted(set(self.levels), reverse=True)
        if not levels or levels[-1] < 1 or not margins:
            raise MethodError("Give levels of 1 or more regions, and at least one margin.")
        object.__setattr__(self, "levels", tuple(levels))


def parse_region(text: str) -> tuple[str, tuple[int, ...]]:
    """Name and labels of a region as ``"cortex=1000-1035,2000-2035"`` says them.

    Raises
    ------
    MethodError
        If it is not written like this, or a number is 0 or less.
    """
    name, _, numbers = text.partition("=")
    labels: list[int] = []
    try:
        for part in numbers.split(","):
            first, _, last = part.strip().partition("-")
            labels.extend(range(int(first), int(last or first) + 1))
    except ValueError:
        labels = []
    if not name.strip() or not labels or min(labels) < 1:
        raise MethodError(
            f"'{text}' does not say which labels a region has; write it like hippocampus=17,53 or "
            "cortex=1000-1035."
        )
    return name.strip(), tuple(dict.fromkeys(labels))


def _several(values: Sequence[str], choices: Collection[str], what: str) -> tuple[str, ...]:
    given = tuple(dict.fromkeys(check_choice(value, choices, what) for value in values))
    if not given:
        raise MethodError(f"Choose at least {what}: {', '.join(choices)}.")
    return given
