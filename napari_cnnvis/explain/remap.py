"""Other maps of a run whose regions were scored, without running the network again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.request import DISAGREEMENT, check_margin
from napari_cnnvis.explain.scoring.region_scores import RegionScores
from napari_cnnvis.scan.smoothing import smoothed

__all__ = ["remap"]


def remap(
    attribution: Attribution,
    target: int | str,
    quantity: str = "drop",
    score: str = "probability",
    baseline: str | None = None,
    join: str = "mean",
    level_weights: Sequence[float] | None = None,
    smooth: float = 0.0,
) -> Attribution:
    """The attribution of another class, score, quantity, baseline or way to join the levels.

    Parameters
    ----------
    attribution : Attribution
        Of `sensitivity` or `box_sensitivity`.
    target : int or str
        The class, by index or name.
    quantity, score, join
        As in `sensitivity`; boxes have no levels to join.
    smooth : float
        Millimetres (full width at half maximum) by which the map is smoothed.
    level_weights : sequence of float, optional
        A weight of 0 or more for each level, fine to coarse; all 1 by default.
    baseline : str, optional
        One of the run's baselines; "disagreement" for how far their maps lie apart
        (largest minus smallest); their mean by default.

    Raises
    ------
    MethodError
        If the map is of another method, or there is no such class, option or baseline.
    """
    scores = attribution.regions
    if scores is None:
        raise MethodError("Only maps of sensitivity and box occlusion can be redrawn.")
    names = attribution.provenance["model"]["class_names"]
    if isinstance(target, str) and target in names:
        target = names.index(target)
    if isinstance(target, str) or not 0 <= target < len(names):
        raise MethodError(f"There is no class {target!r}; the classes are {', '.join(names)}.")
    how: dict[str, Any] = {"join": join} if isinstance(scores, RegionScores) else {}
    if how and level_weights is not None:
        how["level_weights"] = [float(w) for w in level_weights]
    provenance = {
        **attribution.provenance,
        "class": int(target),
        "class_name": names[target],
        "quantity": quantity,
        "score": scores.outputs.score_name(score),
        **how,
        "smooth": float(check_margin(smooth, "smoothing")),
    }
    if baseline == DISAGREEMENT:
        data = scores.disagreement(target, quantity, score, **how)
    else:
        data = scores.map(target, quantity, score, baseline, **how)
    spacing = np.linalg.norm(attribution.affine[:3, :3], axis=0)
    data = smoothed(data, scores.covered(), spacing, smooth)
    if baseline is not None:
        provenance["shown"] = baseline
    return replace(attribution, data=data, provenance=provenance)
