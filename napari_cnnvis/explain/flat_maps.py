"""Why a map is zero, or the same everywhere: it is never shown without a word."""

from __future__ import annotations

import numpy as np

__all__ = ["why_layer_is_flat", "why_no_gradient", "why_occlusions_are_flat"]


def why_no_gradient(name: str, activations: np.ndarray, gradient: np.ndarray | None) -> str:
    """Why the cells of a layer are zero before anything is cut off; "" if they need not be.

    Parameters
    ----------
    name : str
        The layer's.
    activations : array
    gradient : array or None
        Of the score with respect to them; None if none gets there.
    """
    if gradient is None:
        return (
            f"No gradient of the score gets to {name}: after it the network's code has operations "
            "without one (argmax, rounding, a way through numpy). Choose a later layer, or sensitivity."
        )
    if not activations.any():
        return f"{name} gives zeros everywhere for this scan; choose another layer."
    if not gradient.any():
        return (
            f"The score's gradient is zero everywhere at {name}: what comes after it is switched off "
            "or saturated for this scan, or does not read these cells. Choose another layer or score "
            "(the logit), or sensitivity."
        )
    return ""


def why_layer_is_flat(name: str, signed: np.ndarray, kept: np.ndarray, why: str) -> tuple[str, ...]:
    """A note on cells that are all the same.

    Parameters
    ----------
    name : str
        The layer's.
    signed, kept : array
        The cells, and what is shown of them (see ReLU).
    why : str
        What is known from `why_no_gradient`.
    """
    if np.ptp(kept) > 0:
        return ()
    if why:
        return (f"The map is zero. {why}",)
    if np.ptp(signed) > 0 or (signed < 0).all():
        return (
            f"The map is zero: at {name} nothing speaks for this class, and what speaks against it is "
            "cut off (ReLU). Take ReLU off to see it.",
        )
    return (f"The map is the same everywhere: all cells of {name} are equal for this scan.",)


def why_occlusions_are_flat(
    data: np.ndarray, occluded: np.ndarray, clean: np.ndarray, n_occlusions: int, score: str
) -> tuple[str, ...]:
    """A note on a map of drops that are all the same.

    Parameters
    ----------
    data : array
        The map.
    occluded : array, shape (..., n_outputs)
        Outputs of what was scored, NaN elsewhere.
    clean : array, shape (n_outputs,)
    n_occlusions : int
        How many were to be scored.
    score : str
    """
    shown = data[np.isfinite(data)]
    if not shown.size or np.ptp(shown) > 0:
        return ()
    if not n_occlusions:
        return (
            "The map is zero: the baseline is as the scan wherever something would be hidden, or "
            "the network sees nothing of it. Choose another baseline.",
        )
    scored = occluded[np.isfinite(occluded).all(-1)]
    if not len(scored) or not (scored != clean).any():
        return (
            "The map is zero: whatever was hidden, the network's outputs stayed the same. It may not "
            "look at this part of the scan, or the scan may not reach it as it expects (see the "
            "intensities of the input).",
        )
    if not shown.any():
        return (
            f"The map is zero although the outputs changed: the score ({score}) is saturated or does "
            "not follow them. Choose the logit as score.",
        )
    return ("The map is the same everywhere: each occlusion changed the score by as much.",)
