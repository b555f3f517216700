"""What a network's outputs mean: classes, labels or values, and the number that is explained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from napari_cnnvis.errors import MethodError
from napari_cnnvis.models.output_kinds import OUTPUT_KINDS

__all__ = ["LAST_OPERATIONS", "Outputs", "first_scores"]

#: what a network may apply to its logits by itself
LAST_OPERATIONS = ("", "softmax", "log_softmax", "sigmoid")
#: names a dictionary of outputs may have its scores under
_SCORE_KEYS = ("logits", "logit", "out", "output", "pred", "y")


@dataclass(frozen=True)
class Outputs:
    """What each output of a network stands for, and which targets can be explained.

    A single sigmoid output gives two targets: the class it stands for, and its
    absence. Each output of a regression gives two: a higher and a lower value.

    Parameters
    ----------
    kind : {"softmax", "sigmoid", "regression"}
    n : int
        Outputs of the network.
    last : {"", "softmax", "log_softmax", "sigmoid"}
        What the network itself applies last. It is undone before logits are asked
        for; after a softmax they are known up to a constant, so that the score
        "logit" is then the log-probability.

    Raises
    ------
    MethodError
        If they do not go together.
    """

    kind: str
    n: int
    last: str = ""

    def __post_init__(self) -> None:
        if self.kind not in OUTPUT_KINDS:
            kinds = ", ".join(OUTPUT_KINDS)
            raise MethodError(f"'{self.kind}' is not a kind of output; use one of {kinds}.")
        if self.n < 1:
            raise MethodError("The network has no outputs, so there is nothing to explain.")
        if self.kind == "softmax" and self.n < 2:
            raise MethodError(
                "A network with one output has no classes to choose from; its output is 'sigmoid' "
                "or 'regression'."
            )
        if self.kind == "softmax" and self.last == "sigmoid":
            raise MethodError("The network ends in a sigmoid; its output is 'sigmoid'.")

    @classmethod
    def of(cls, kind: str | None, n: int, last: str = "") -> Outputs:
        """Outputs of the given kind, or of the likely one."""
        if kind is None:
            kind = "sigmoid" if n == 1 or last == "sigmoid" else "softmax"
        return cls(kind, n, last)

    @property
    def signed(self) -> bool:
        """Whether each output gives two targets."""
        return self.kind == "regression" or (self.kind == "sigmoid" and self.n == 1)

    @property
    def n_targets(self) -> int:
        """How many targets there are."""
        return 2 * self.n if self.signed else self.n

    @property
    def has_probabilities(self) -> bool:
        """False for values."""
        return self.kind != "regression"

    def target_names(self, names: Sequence[str] | None) -> tuple[str, ...]:
        """What the targets are called; `names` as given by a file or the user.

        Raises
        ------
        MethodError
            If there are not as many names as outputs (or targets), or one twice.
        """
        if names is None or len(names) == 0:
            if self.kind == "regression":
                names = [f"output {c}" for c in range(self.n)] if self.n > 1 else ["output"]
            else:
                names = [f"class {c}" for c in range(self.n_targets)]
        names = [str(name) for name in names]
        if self.signed and len(names) == self.n:
            pairs = (
                (f"lower {name}", f"higher {name}")
                if self.kind == "regression"
                else (f"not {name}", name)
                for name in names
            )
            names = [name for pair in pairs for name in pair]
        if len(names) != self.n_targets:
            raise MethodError(
                f"{len(names)} class names were given for {self.n} outputs of the network; give "
                "one name for each."
            )
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise MethodError(f"The class name '{twice}' is given twice; give each class its own.")
        return tuple(names)

    def column(self, target: int) -> int:
        """The output that a target belongs to."""
        return target // 2 if self.signed else target

    def sign(self, target: int) -> int:
        """-1 for the absence of a class and for lower values, else 1."""
        return -1 if self.signed and target % 2 == 0 else 1

    def score(self, raw: Tensor, target: int, score: str) -> Tensor:
        """Score of a target for raw outputs (n, n_outputs); shape (n,).

        For classes `score` is one of ``options.SCORES``; a regression has one score
        only: the value, or its negative for the "lower" target.
        """
        column, sign = self.column(target), self.sign(target)
        if self.kind == "regression":
            return sign * raw[:, column]
        if self.kind == "softmax":
            logits = raw.clamp_min(_SMALLEST).log() if self.last == "softmax" else raw
            if score == "log_prob":
                logits = logits.log_softmax(1)
            elif score == "probability":
                logits = logits.softmax(1)
            return logits[:, target]
        logits = _undo_sigmoid(raw) if self.last == "sigmoid" else raw
        logit = sign * logits[:, column]
        if score == "log_prob":
            return torch.nn.functional.logsigmoid(logit)
        return logit.sigmoid() if score == "probability" else logit

    def predictions(self, raw: Tensor) -> Tensor:
        """Probabilities of the targets (n, n_targets); for a regression the values (n, n_outputs)."""
        if self.kind == "regression":
            return raw
        return torch.stack([self.score(raw, t, "probability") for t in range(self.n_targets)], 1)

    def score_name(self, score: str) -> str:
        """What the score is called in a map's record."""
        return score if self.has_probabilities else "value"


_SMALLEST = 1e-30


def _undo_sigmoid(p: Tensor) -> Tensor:
    return p.clamp_min(_SMALLEST).log() - (1 - p).clamp_min(_SMALLEST).log()


def first_scores(output: Any) -> Tensor:
    """The scores (n, n_outputs) in whatever a network gives.

    Networks give a tensor (n, n_outputs), (n,) or with trailing axes of length 1, or
    a tuple, list or dictionary in which such a tensor comes first or is called "logits".

    Raises
    ------
    MethodError
        If there is none, as for a segmentation network.
    """
    if isinstance(output, dict):
        known = [output[key] for key in _SCORE_KEYS if key in output]
        candidates = [*known, *output.values()]
    elif isinstance(output, tuple | list):
        candidates = list(output)
    else:
        candidates = [output]
    shapes = []
    for tensor in candidates:
        if not isinstance(tensor, Tensor):
            continue
        shapes.append(" x ".join(map(str, tensor.shape)))
        if tensor.ndim == 1:
            return tensor[:, None]
        if tensor.ndim >= 2 and all(n == 1 for n in tensor.shape[2:]):
            return tensor.flatten(1) if tensor.ndim > 2 else tensor
    given = f"an output of {shapes[0]} values" if shapes else "no tensor"
    raise MethodError(
        f"The network gives {given} for a scan instead of one score for each class, so it is not a "
        "classifier; choose a classification or regression network."
    )
