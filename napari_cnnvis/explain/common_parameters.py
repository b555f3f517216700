"""The parameters that several methods have, and their choices."""

from __future__ import annotations

from typing import Any

from napari_cnnvis.explain.parameter import BASELINES, parameter

__all__ = [
    "ALIGNMENTS",
    "DISAGREEMENT",
    "ENGINES",
    "JOINS",
    "PRECISIONS",
    "QUANTITIES",
    "SCORES",
    "alignment",
    "baseline",
    "precision",
    "quantity",
    "score",
    "shown",
    "smooth",
    "time_budget",
]

#: the number that is explained
SCORES = {"logit": "logit", "log_prob": "log-probability", "probability": "probability"}
#: what sensitivity maps: how much the score drops, how much it changes in either direction, or
#: the score with the region occluded
QUANTITIES = {"drop": "drop", "absolute": "size of the drop", "probability": "what remains"}
#: "stretch" spreads a layer's cells evenly over the input, as other tools do;
#: "receptive field" puts each cell where its receptive field is centred
ALIGNMENTS = {"stretch": "stretch", "receptive field": "receptive field"}
#: how the values of a voxel's regions on the levels are joined
JOINS = {
    "mean": "mean over the levels",
    "size-aware": "mean, small regions more",
    "strongest": "the strongest on any level",
}
#: how occluded volumes are scored
ENGINES = ("auto", "incremental", "full")
#: "half" is float16 on a GPU and bfloat16 on a CPU
PRECISIONS = {"single": "single", "half": "half"}
#: asks for how much the baselines' maps differ instead of one of them
DISAGREEMENT = "disagreement"


def score(default: str, redraws: bool = False) -> Any:
    """The number that is explained."""
    return parameter(
        default,
        "Score",
        "The number that is explained.",
        noun="a score",
        choices=SCORES,
        redraws=redraws,
    )


def alignment() -> Any:
    """Where a layer's cells are put."""
    return parameter(
        "stretch",
        "Cells",
        "Where a layer's cells are put: spread evenly over the input, as other tools do, or where "
        "their receptive fields are centred. Differs for networks without padding.",
        noun="an alignment",
        choices=ALIGNMENTS,
        redraws=True,
    )


def baseline() -> Any:
    """What an occluded voxel becomes."""
    return parameter(
        ("blur",),
        "Baselines",
        f"What occluded voxels become: {', '.join(BASELINES)}, a number, or a scan on the same "
        "grid. Of several, the map is the mean.",
        kind="baselines",
    )


def quantity() -> Any:
    """What of the score is mapped."""
    return parameter(
        "drop",
        "Shows",
        "How much the score drops (positive supports the class); how much it changes either way, "
        "which finds what matters; or the score that remains, as the reference maps it.",
        noun="a quantity",
        choices=QUANTITIES,
        redraws=True,
    )


def smooth() -> Any:
    """Smoothing of the finished map."""
    return parameter(
        0.0,
        "Smooth",
        "Smooths the map with a Gaussian (full width at half maximum). 0 is the published method; "
        "12 mm found simulated atrophy far better.",
        noun="smoothing",
        unit="mm",
        low=0,
        redraws=True,
    )


def shown() -> Any:
    """Which baseline's map is drawn."""
    return parameter(
        None,
        "Map of",
        "With several baselines: the map of one of them, or 'disagreement' for how much they "
        "differ (largest minus smallest), instead of their mean.",
        none="mean of the baselines",
        redraws=True,
    )


def time_budget() -> Any:
    """When to stop scoring."""
    return parameter(
        None,
        "Time limit",
        "Stop after this time with the map so far; large regions, and boxes far apart, come first.",
        noun="time limit",
        unit="s",
        above=0,
        option="time-limit",
    )


def precision() -> Any:
    """In which precision regions are scored."""
    return parameter(
        "single",
        "Precision",
        "Half scores regions in float16 (bfloat16 on a CPU). The difference from full precision "
        "is measured on four regions and shown.",
        noun="a precision",
        choices=PRECISIONS,
        option="half",
        flag_value="half",
    )
