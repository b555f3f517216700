"""Other maps of a run whose regions were scored, without running the network again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from napari_cnnvis.errors import MethodError, some_of
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.common_parameters import DISAGREEMENT
from napari_cnnvis.explain.method import Method
from napari_cnnvis.scan.smoothing import smoothed

__all__ = ["remap", "remapped"]


def remap(
    attribution: Attribution,
    target: int | str,
    *,
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
        One of the run's baselines; "disagreement" for how much their maps differ
        (largest minus smallest); their mean by default.

    Raises
    ------
    MethodError
        If the map is of another method, or there is no such class, option or baseline.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> result = cv.sensitivity(model, volume, cv.build_hierarchy(volume), "lesion")
    >>> cv.remap(result, "healthy", score="logit", smooth=6).name
    'UCM sensitivity · healthy'
    """
    if attribution.regions is None:
        raise MethodError("Only maps of sensitivity and box occlusion can be redrawn.")
    kind = attribution.record.method
    asked = {
        **{"quantity": quantity, "score": score, "shown": baseline, "join": join},
        **{"level_weights": level_weights, "smooth": smooth},
    }
    known = {name: value for name, value in asked.items() if name in kind.parameters()}
    return remapped(attribution, kind(**known), target)


def remapped(attribution: Attribution, how: Method, target: int | str) -> Attribution:
    """The attribution that another run with `how` would give, as far as how it is drawn.

    Its record is that of the run, with the parameters that say how it is drawn.

    Raises
    ------
    MethodError
        If there is no such class or baseline.
    """
    scores = attribution.regions
    names = attribution.record.values["model"]["class_names"]
    if isinstance(target, str) and target in names:
        target = names.index(target)
    if isinstance(target, str) or not 0 <= target < len(names):
        raise MethodError(
            f"There is no class {target!r}; the classes are {some_of(names, str(target))}."
        )
    drawn = {n: getattr(how, n) for n, p in how.parameters().items() if p.redraws}
    ways = {name: drawn[name] for name in ("join", "level_weights") if drawn.get(name) is not None}
    quantity, score, shown = drawn["quantity"], drawn["score"], drawn["shown"]
    if shown == DISAGREEMENT:
        data = scores.disagreement(target, quantity, score, **ways)
    else:
        data = scores.map(target, quantity, score, shown, **ways)
    spacing = np.linalg.norm(attribution.affine[:3, :3], axis=0)
    data = smoothed(data, scores.covered(), spacing, drawn["smooth"])
    changes: dict[str, Any] = {
        how.parameters()[n].stored: how.parameters()[n].plain(v) for n, v in drawn.items()
    }
    changes["score"] = scores.outputs.score_name(score)
    record = attribution.record.with_values(
        **{"class": int(target), "class_name": names[target]}, **changes
    )
    return replace(attribution, data=data, record=record)
