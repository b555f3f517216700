"""What a network's outputs mean: classes, labels or values, and the number that is explained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_cnnvis.errors import MethodError
from napari_cnnvis.models.output_kinds import OUTPUT_KINDS

__all__ = ["LAST_OPERATIONS", "Outputs"]

#: what a network may apply to its logits by itself
LAST_OPERATIONS = ("", "softmax", "log_softmax", "sigmoid")


@dataclass(frozen=True)
class Outputs:
    """What each output of a network stands for, and which targets can be explained.

    A single sigmoid output gives two targets: the class it stands for, and its
    absence. Each output of a regression gives two: a higher and a lower value; so does the
    expected value over bins. n ordinal outputs, the logits of being beyond each of n stages
    (CORAL, Cao et al. 2020, arXiv:1901.07884), give n + 1 classes.

    Parameters
    ----------
    kind : {"softmax", "sigmoid", "regression", "probabilities", "ordinal", "bins"}
        "probabilities" are taken as they are, however the network made them.
    n : int
        Outputs of the network.
    last : {"", "softmax", "log_softmax", "sigmoid"}
        What the network itself applies last. It is undone before logits are asked
        for; after a softmax they are known up to a constant, so that the score
        "logit" is then the log-probability.
    centres : tuple of float
        Of "bins": the value at each one's centre.

    Raises
    ------
    MethodError
        If they do not go together.
    """

    kind: str
    n: int
    last: str = ""
    centres: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in OUTPUT_KINDS:
            kinds = ", ".join(OUTPUT_KINDS)
            raise MethodError(f"'{self.kind}' is not a kind of output; use one of {kinds}.")
        if self.n < 1:
            raise MethodError("The network has no outputs, so there is nothing to explain.")
        if self.kind in ("softmax", "probabilities", "bins") and self.n < 2:
            raise MethodError(
                "A network with one output has no classes to choose from; its output is 'sigmoid' "
                "or 'regression'."
            )
        if self.kind == "softmax" and self.last == "sigmoid":
            raise MethodError("The network ends in a sigmoid; its output is 'sigmoid'.")

    @classmethod
    def of(
        cls, kind: str | None, n: int, last: str = "", names: Sequence[str] | None = None
    ) -> Outputs:
        """Outputs of the given kind, or of the likely one; the names of bins are their centres."""
        if kind is None:
            kind = "sigmoid" if n == 1 or last == "sigmoid" else "softmax"
        if kind == "probabilities":
            last = "softmax"
        return cls(kind, n, last, _centres(names, n) if kind == "bins" else ())

    @property
    def signed(self) -> bool:
        """Whether each output, or value, gives two targets."""
        return not self.has_probabilities or (self.kind == "sigmoid" and self.n == 1)

    @property
    def n_values(self) -> int:
        """How many numbers a prediction has."""
        if self.kind == "bins":
            return 1
        return self.n if self.kind == "regression" else self.n_targets

    @property
    def n_targets(self) -> int:
        """How many targets there are."""
        if self.kind == "bins":
            return 2
        if self.kind == "ordinal":
            return self.n + 1
        return 2 * self.n if self.signed else self.n

    @property
    def has_probabilities(self) -> bool:
        """False for values."""
        return self.kind not in ("regression", "bins")

    @property
    def one_for_each(self) -> bool:
        """Whether each target is one output, or its negative."""
        return self.kind not in ("ordinal", "bins")

    def target_names(self, names: Sequence[str] | None) -> tuple[str, ...]:
        """What the targets are called; `names` as given by a file or the user.

        Raises
        ------
        MethodError
            If there are not as many names as outputs (or targets), or one twice.
        """
        if self.kind == "bins":
            return "lower value", "higher value"
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
            more = " ordinal" if self.kind == "ordinal" else ""
            each = "each of the stages, one more" if more else "each"
            raise MethodError(
                f"{len(names)} class names were given for {self.n}{more} outputs of the network; "
                f"give one name for {each}."
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
        if self.kind == "bins":
            return sign * self._expected(raw)
        if self.kind == "ordinal":
            return self._of_stage(raw, target, score)
        if self.kind in ("softmax", "probabilities"):
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

    def _expected(self, raw: Tensor) -> Tensor:
        """The mean of the bins' centres, weighted by their probabilities."""
        logits = raw.clamp_min(_SMALLEST).log() if self.last == "softmax" else raw
        centres = torch.tensor(self.centres, dtype=raw.dtype, device=raw.device)
        return (logits.softmax(1) * centres).sum(1)

    def _of_stage(self, raw: Tensor, stage: int, score: str) -> Tensor:
        """Of being beyond the stage before, and not beyond this one."""
        beyond = raw if self.last == "sigmoid" else raw.sigmoid()
        before = beyond[:, stage - 1] if stage else torch.ones_like(beyond[:, 0])
        after = beyond[:, stage] if stage < self.n else torch.zeros_like(before)
        p = (before - after).clamp_min(0)
        if score == "probability":
            return p
        log_p = p.clamp_min(_SMALLEST).log()
        return log_p if score == "log_prob" else log_p - (1 - p).clamp_min(_SMALLEST).log()

    def predictions(self, raw: Tensor) -> Tensor:
        """Probabilities of the targets (n, n_targets); of values themselves (n, n_values)."""
        if self.kind == "regression":
            return raw
        if self.kind == "bins":
            return self._expected(raw)[:, None]
        return torch.stack([self.score(raw, t, "probability") for t in range(self.n_targets)], 1)

    def score_name(self, score: str) -> str:
        """What the score is called in a map's record."""
        return score if self.has_probabilities else "value"


_SMALLEST = 1e-30


def _undo_sigmoid(p: Tensor) -> Tensor:
    return p.clamp_min(_SMALLEST).log() - (1 - p).clamp_min(_SMALLEST).log()


def _centres(names: Sequence[str] | None, n: int) -> tuple[float, ...]:
    try:
        centres = tuple(float(name) for name in names or ())
    except ValueError:
        centres = ()
    if len(centres) != n:
        raise MethodError(
            f"The network has {n} bins; give the value at the centre of each as the names of its "
            f"outputs, such as {', '.join(str(42.5 + i) for i in range(min(n, 3)))}, ..."
        )
    return centres
