"""Rules that scale a scan's intensities, one or several in the order given."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from napari_cnnvis.errors import VolumeError, shortened

__all__ = ["INTENSITY_RULES", "checked_rules", "scaled"]


def _divide_by_max(x: np.ndarray) -> np.ndarray:
    peak = x.max()
    return x / peak if peak > 0 else x


def _divide_by_mean(x: np.ndarray) -> np.ndarray:
    mean = x.mean(dtype=np.float64) if x.size else 0
    return x / mean if mean > 0 else x


def _divide_by_mean_nonzero(x: np.ndarray) -> np.ndarray:
    inside = x[x != 0]
    mean = inside.mean(dtype=np.float64) if inside.size else 0
    return x / mean if mean > 0 else x


def _z_score(x: np.ndarray) -> np.ndarray:
    inside = x[x != 0]
    if inside.size == 0 or inside.std() == 0:
        return x - x.mean()
    return (x - inside.mean()) / inside.std()


def _z_score_nonzero(x: np.ndarray) -> np.ndarray:
    inside = x != 0
    if not inside.any():
        return x
    values = x[inside].astype(np.float64)
    return np.where(inside, (x - values.mean()) / (values.std() or 1.0), 0)


def _range(x: np.ndarray) -> np.ndarray:
    low, high = x.min(), x.max()
    return (x - low) / (high - low) if high > low else np.zeros_like(x)


def _percentile(x: np.ndarray) -> np.ndarray:
    low, high = np.percentile(x, (1, 99))
    return np.clip((x - low) / (high - low), 0, 1) if high > low else np.zeros_like(x)


def _clip(x: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip(x, low, high)


def _window(x: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((x - low) / (high - low), 0, 1)


#: intensity rules by name: "max" and "mean" divide by the maximum and the mean,
#: "mean-nonzero" by the mean of the non-zero voxels, "range" maps minimum..maximum to 0..1,
#: "z-score" uses the mean and deviation of the non-zero voxels, "z-score-nonzero" does so and
#: leaves voxels of 0 at 0, "percentile" maps the 1st..99th to 0..1
INTENSITY_RULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "max": _divide_by_max,
    "mean": _divide_by_mean,
    "mean-nonzero": _divide_by_mean_nonzero,
    "range": _range,
    "z-score": _z_score,
    "z-score-nonzero": _z_score_nonzero,
    "percentile": _percentile,
    "none": lambda x: x,
}


def _steps(rules: str) -> list[Callable[[np.ndarray], np.ndarray]]:
    steps: list[Callable[[np.ndarray], np.ndarray]] = []
    for one in rules.split(","):
        words = one.split()
        if len(words) == 1 and words[0] in INTENSITY_RULES:
            steps.append(INTENSITY_RULES[words[0]])
            continue
        if len(words) != 3 or words[0] not in ("clip", "window"):
            raise ValueError(one)
        low, high = float(words[1]), float(words[2])
        if not -np.inf < low < high < np.inf:
            raise ValueError(one)
        steps.append(partial(_clip if words[0] == "clip" else _window, low=low, high=high))
    return steps


def checked_rules(rules: str) -> str:
    """The rules as they were given, if they can be applied.

    Parameters
    ----------
    rules : str
        Names of `INTENSITY_RULES`, "clip LOW HIGH" or "window LOW HIGH" (LOW..HIGH to 0..1,
        cut off there), with commas between them: "mean, clip 0 8".

    Returns
    -------
    str

    Raises
    ------
    VolumeError
        If one of them is not a rule.

    Examples
    --------
    >>> checked_rules("mean, clip 0 8")
    'mean, clip 0 8'
    """
    try:
        _steps(rules)
    except (ValueError, AttributeError):
        raise VolumeError(
            f"'{shortened(rules, 60)}' is not an intensity rule; use one of "
            f"{', '.join(INTENSITY_RULES)}, clip LOW HIGH, window LOW HIGH, or several with commas "
            "between them, such as 'mean, clip 0 8'."
        ) from None
    return rules


def scaled(x: np.ndarray, rules: str) -> np.ndarray:
    """An array after intensity rules, in the order given.

    Parameters
    ----------
    x : array
    rules : str
        As `checked_rules` takes them.

    Returns
    -------
    array, of the shape of `x`

    Examples
    --------
    >>> import numpy as np
    >>> scaled(np.array([0.0, 1.0, 11.0]), "mean, clip 0 2")
    array([0.  , 0.25, 2.  ])
    """
    for step in _steps(rules):
        x = step(x)
    return x
