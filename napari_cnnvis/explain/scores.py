"""The number that is explained: a logit, a log-probability or a probability."""

from __future__ import annotations

from torch import Tensor

from napari_cnnvis.errors import MethodError

__all__ = ["SCORES", "check_score", "score_of"]

SCORES = ("logit", "log_prob", "probability")


def check_score(score: str) -> str:
    """`score` itself.

    Raises
    ------
    MethodError
        If it is not one of `SCORES`.
    """
    if score not in SCORES:
        raise MethodError(f"'{score}' is not a score; use one of {', '.join(SCORES)}.")
    return score


def score_of(logits: Tensor, target: int, score: str) -> Tensor:
    """Score of class `target` for logits (n, n_classes); shape (n,)."""
    if score == "log_prob":
        logits = logits.log_softmax(1)
    elif score == "probability":
        logits = logits.softmax(1)
    return logits[:, target]
