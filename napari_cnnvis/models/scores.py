"""How a network is run to its scores: what it is given, where they are in what it gives back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from napari_cnnvis.errors import ComputeError, MethodError
from napari_cnnvis.models.calling import PLAIN, Call

__all__ = ["LostRows", "Part", "Reading", "choose_part", "parts_of_output"]

#: names that a part of the output may have if it is the scores
_SCORE_NAMES = ("logits", "logit", "scores", "score", "out", "output", "pred", "prediction", "y")
#: functions whose input is taken where they come last
_ACTIVATIONS = {
    "softmax": "softmax",
    "log_softmax": "log_softmax",
    "sigmoid": "sigmoid",
    "sigmoid_": "sigmoid",
    "expit": "sigmoid",
}
#: how close an activation's output is to the scores that are taken for it
_SAME = 1e-4


class LostRows(ComputeError):
    """A network gives another number of rows than it was given scans."""


@dataclass(frozen=True)
class Part:
    """A tensor in what a network gives for one scan: its name there, and its shape."""

    name: str
    shape: tuple[int, ...]

    @property
    def width(self) -> int:
        """How many scores it holds if it is the scores of one scan, else 0."""
        wide = [n for n in self.shape if n != 1]
        if len(wide) > 1 or (len(self.shape) == 2 and self.shape[0] != 1):
            return 0
        return wide[0] if wide else 1

    @property
    def rows(self) -> int:
        """How many rows of scores it has; 1 as it should, more if space became the batch."""
        return self.shape[0] if len(self.shape) == 2 else 1


def parts_of_output(output: Any, name: str = "", depth: int = 2) -> Iterator[tuple[str, Tensor]]:
    """The tensors in what a network gives, by name: "" if it is one, "0", "1", a key or a field."""
    if isinstance(output, Tensor):
        yield name, output
        return
    if depth == 0:
        return
    for key, value in _items(output):
        yield from parts_of_output(value, f"{name}.{key}" if name else str(key), depth - 1)


def _items(output: Any) -> list[tuple[Any, Any]]:
    if isinstance(output, Mapping):
        return list(output.items())
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return list(zip(output._fields, output, strict=True))
    if isinstance(output, tuple | list):
        return list(enumerate(output))
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return [(field.name, getattr(output, field.name)) for field in dataclasses.fields(output)]
    return []


def choose_part(parts: Sequence[Part], n_names: int | None, wanted: str | None = None) -> Part:
    """Which part of the output is the scores of the classes.

    In this order: the one that is asked for; the only one that can be; one that is called so
    (``logits``); one as wide as there are class names.

    Parameters
    ----------
    parts : sequence of Part
        For one scan.
    n_names : int, optional
        How many class names were given.
    wanted : str, optional
        A name among them.

    Raises
    ------
    MethodError
        If none can be the scores, or several can and nothing says which.
    """
    if wanted is not None:
        found = next((p for p in parts if p.name == wanted), None)
        if found is None or not found.width:
            raise MethodError(
                f"The network's output has no scores called '{wanted}'; it has {_listed(parts)}."
            )
        return found
    fit = [part for part in parts if part.width]
    if not fit:
        raise MethodError(_no_classifier(parts))
    named = [part for name in _SCORE_NAMES for part in fit if _is_called(part, name)]
    of_names = [part for part in fit if part.width == n_names]
    if len(fit) == 1 or len({part.width for part in fit}) == 1:
        return (named or fit)[0]
    both = [part for part in named if part in of_names]
    if both or named:
        return (both or named)[0]
    if len({part.name for part in of_names}) == 1:
        return of_names[0]
    raise MethodError(
        f"The network gives several outputs, and nothing says which are the scores of the classes: "
        f"{_listed(fit)}. Say which, such as scores='{fit[-1].name}' (--scores {fit[-1].name} on the "
        "command line), or give the names of the classes."
    )


def _is_called(part: Part, name: str) -> bool:
    own = part.name.rpartition(".")[2].lower()
    return own == name or (len(name) > 3 and own.endswith(f"_{name}"))


def _listed(parts: Sequence[Part]) -> str:
    shown = [f"'{p.name}' ({' x '.join(map(str, p.shape)) or '1'} values)" for p in parts[:10]]
    more = f" and {len(parts) - 10} more" if len(parts) > 10 else ""
    return ", ".join(shown) + more


def _no_classifier(parts: Sequence[Part]) -> str:
    rows = next((p for p in parts if p.rows > 1), None)
    if rows is not None:
        return (
            f"The network gives {rows.rows} rows of scores for one scan, so part of the space has "
            "become the batch (a view or reshape with -1 in its code); it was made for another "
            "input size. Set the input's shape to the one it was trained with."
        )
    if any(0 in part.shape for part in parts):
        return "The network has no outputs, so there is nothing to explain."
    shape = " x ".join(map(str, parts[0].shape)) if parts else ""
    given = f"an output of {shape} values" if parts else "no tensor"
    return (
        f"The network gives {given} for a scan instead of one score for each class, so it is not a "
        "classifier; choose a classification or regression network."
    )


@dataclass(frozen=True)
class Reading:
    """How to run a network to its scores.

    Attributes
    ----------
    part : Part
        Which part of its output they are.
    call : Call
        What the network is given besides the scan.
    ends_in : {"", "softmax", "log_softmax", "sigmoid"}
        What the network itself applies last.
    from_end : int
        That call, counted from the last one of its kind, if its input is taken instead of its
        output: the logits, which a sure network's probabilities do not show. 0 if the output
        is taken as it is.
    """

    part: Part
    call: Call = PLAIN
    ends_in: str = ""
    from_end: int = 0

    @property
    def left(self) -> str:
        """What still has to be undone for logits: ``ends_in``, or "" if its input is taken."""
        return "" if self.from_end else self.ends_in

    def as_given(self) -> Reading:
        """The same, but the network's own output is taken."""
        return replace(self, from_end=0)

    def run(self, module: nn.Module, x: Tensor) -> Tensor:
        """Scores (n, n_outputs) of inputs (n, c, i, j, k).

        Raises
        ------
        LostRows
            If there is not one row for each input.
        """
        scores = self.traced(module, x)
        if len(scores) != len(x):
            raise LostRows(
                f"The network gives {len(scores)} rows of scores for {len(x)} scan(s) of this size; "
                "set the input's shape to the one it was trained with."
            )
        return scores

    def traced(self, module: nn.Module, x: Tensor) -> Tensor:
        """As `run`, without a look at the number of rows, which a trace does not know."""
        if not self.from_end:
            given = dict(parts_of_output(self.call.run(module, x)))
            if self.part.name not in given:
                raise MethodError(f"The network gave no '{self.part.name}' this time.")
            return self._rows(given[self.part.name])
        with Activations(len(x) * self.part.width) as seen:
            self.call.run(module, x)
        of_kind = [before for kind, before, _ in seen.found if kind == self.ends_in]
        if len(of_kind) < self.from_end:
            raise ComputeError(f"The network did not come to its final {self.ends_in} this time.")
        return self._rows(of_kind[-self.from_end])

    def _rows(self, tensor: Tensor) -> Tensor:
        tensor = tensor.float()
        # a network that squeezes gives rows for several scans only: a trace has to reshape both
        kept = len(self.part.shape) == tensor.ndim == 2 and tensor.shape[1] == self.part.width
        return tensor if kept else tensor.reshape(-1, self.part.width)


class Activations(TorchFunctionMode):
    """Keeps what goes into softmax and sigmoid, and comes out, if it is of so many values.

    Attributes
    ----------
    found : list of (kind, input, output)
        In the order of the calls.
    """

    def __init__(self, numel: Any) -> None:
        super().__init__()
        self._numel = numel
        self.found: list[tuple[str, Tensor, Tensor]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        kind = _ACTIVATIONS.get(getattr(func, "__name__", ""), "")
        given = args[0] if args else kwargs.get("input")
        if not kind or not isinstance(given, Tensor) or given.numel() != self._numel:
            return func(*args, **kwargs)
        before = given.clone() if func.__name__.endswith("_") else given
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            self.found.append((kind, before, result))
        return result


def find_end(reading: Reading, module: nn.Module, inputs: Sequence[Tensor]) -> Reading:
    """What the network applies last, decided by what it gives for several inputs.

    An activation counts as the last if all that follows (a clamp, a cast, an index) leaves its
    values as they are. Rows from 0 to 1 that sum to 1 for every input are a softmax.

    Parameters
    ----------
    reading : Reading
    module : nn.Module
    inputs : sequence of Tensor, shape (1, c, i, j, k)
    """
    width = reading.part.width
    plain = reading.as_given()
    candidates: set[tuple[str, int]] | None = None
    probabilities = width > 1
    for x in inputs:
        with Activations(width) as seen:
            scores = plain.run(module, x).float()
        probabilities = probabilities and _sums_to_one(scores)
        counts: dict[str, int] = {}
        same = set()
        for kind, before, _ in reversed(seen.found):
            counts[kind] = counts.get(kind, 0) + 1
            if _equal(_applied(kind, before.float().reshape(1, width)), scores):
                same.add((kind, counts[kind]))
        candidates = same if candidates is None else candidates & same
        if not candidates and not probabilities:
            return plain
    if candidates:
        kind, from_end = min(candidates, key=lambda one: one[1])
        return replace(plain, ends_in=kind, from_end=from_end)
    return replace(plain, ends_in="softmax") if probabilities else plain


def _applied(kind: str, logits: Tensor) -> Tensor:
    return logits.sigmoid() if kind == "sigmoid" else getattr(logits, kind)(1)


def _equal(one: Tensor, other: Tensor) -> bool:
    return bool(torch.allclose(one, other, rtol=_SAME, atol=_SAME))


def _sums_to_one(scores: Tensor) -> bool:
    low, high = float(scores.min()), float(scores.max())
    return low >= -_SAME and high <= 1 + _SAME and abs(float(scores.sum()) - 1) < 10 * _SAME
