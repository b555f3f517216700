"""What a network says of a scan, and whether that is what the study says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Prediction", "agrees", "described", "verdict"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """A network's outputs for a scan.

    Attributes
    ----------
    values : array, float32, shape (n_classes,)
        As `Model.predict` gives them.
    notes : tuple of str
        What a user should know of the scan.
    """

    values: np.ndarray
    notes: tuple[str, ...] = ()


def described(prediction: Prediction, model: Any) -> str:
    """ "AD 93%"; every label that is likely for a network of labels; "age 71.3" for values."""
    outputs = model.outputs
    if not outputs.has_probabilities:
        return ", ".join(f"{name} {value}" for name, value in model.described(prediction.values))
    pairs = list(zip(model.class_names, prediction.values, strict=True))
    if _several_labels(outputs):
        likely = [pair for pair in pairs if pair[1] >= 0.5]
        return ", ".join(f"{name} {_percent(p)}" for name, p in likely) or "none"
    name, p = max(pairs, key=lambda pair: pair[1])
    return f"{name} {_percent(p)}"


def _percent(p: float) -> str:
    """Whole per cent; "> 99%" rather than 100% for what is not certain."""
    return "> 99%" if 0.995 <= p < 1 else f"{p:.0%}"


def verdict(prediction: Prediction | None, label: str, model: Any) -> bool | None:
    """Whether the predicted class is the study's label; None where that cannot be said.

    It cannot without a label, if the label is none of the classes, and for networks
    of values or of several labels at once.
    """
    if prediction is None or not model.outputs.has_probabilities or _several_labels(model.outputs):
        return None
    return agrees(label, int(np.argmax(prediction.values)), model.class_names)


def agrees(label: str, index: int, class_names: Sequence[str]) -> bool | None:
    """Whether a label is the class of this index; None if it is no class at all.

    Labels are compared with the names whatever their case, then taken as an index.
    """
    names = [name.strip().casefold() for name in class_names]
    label = label.strip().casefold()
    if label in names:
        return names.index(label) == index
    try:
        number = float(label)
    except ValueError:
        return None
    return number == index if number in range(len(names)) else None


def _several_labels(outputs: Any) -> bool:
    return outputs.kind == "sigmoid" and outputs.n > 1
