"""The number that is explained: a logit, a log-probability or a probability."""

from __future__ import annotations

from torch import Tensor

__all__ = ["score_of"]


def score_of(logits: Tensor, target: int, score: str) -> Tensor:
    """Score of class `target` for logits (n, n_classes); shape (n,).

    `score` is one of ``options.SCORES``.
    """
    if score == "log_prob":
        logits = logits.log_softmax(1)
    elif score == "probability":
        logits = logits.softmax(1)
    return logits[:, target]
