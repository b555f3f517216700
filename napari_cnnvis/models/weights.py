"""How a file's weights and a network's go together, said in few words."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from napari_cnnvis.errors import CheckpointError

__all__ = ["WeightMatch", "load_weights", "match_weights", "named"]


@dataclass(frozen=True, eq=False)
class WeightMatch:
    """A file's tensors against those that a network needs.

    Attributes
    ----------
    state : dict of str to Tensor
        The tensors that fit, under the network's names.
    expected : int
        Tensors that the network has; counters of BatchNorm do not count.
    missing, unexpected : tuple of str
        Names that only the network, or only the file, has.
    wrong_shapes : tuple of (name, shape in the file, shape needed)
    not_finite : tuple of str
        Tensors with NaN or infinite values.
    notes : tuple of str
        What was done to the names.
    """

    state: dict[str, Tensor]
    expected: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong_shapes: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    not_finite: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the network can be used with these weights."""
        return not (self.missing or self.unexpected or self.wrong_shapes or self.not_finite)

    @property
    def matched(self) -> int:
        """How many of the network's tensors are there with the right shape."""
        return self.expected - len(self.missing) - len(self.wrong_shapes)

    def problem(self) -> str:
        """What is wrong and what to do, as sentences; "" if all is well."""
        parts, remedy = [], "Name the network that these weights were saved from."
        if self.missing:
            parts.append(
                f"{len(self.missing)} of {self.expected} weights {_are(self.missing)} missing"
                f"{_which(self.missing)}"
            )
        if self.unexpected:
            total = len(self.state) + len(self.unexpected) + len(self.wrong_shapes)
            parts.append(
                f"{len(self.unexpected)} of the file's {total} weights {_are(self.unexpected)} not "
                f"part of it{_which(self.unexpected)}"
            )
        if self.wrong_shapes:
            name, have, need = self.wrong_shapes[0]
            more = f" ({len(self.wrong_shapes)} such weights)" if len(self.wrong_shapes) > 1 else ""
            parts.append(f"{name} has shape {have}, but {need} is needed{more}")
            remedy = self._shape_remedy() or remedy
        if not parts and self.not_finite:
            parts.append(
                f"NaN or infinite values are in {len(self.not_finite)} of its weights"
                f"{_which(self.not_finite)}"
            )
            remedy = "Training diverged or the file is damaged: take an earlier checkpoint."
        return (
            f"{'. '.join(p[0].upper() + p[1:] if n else p for n, p in enumerate(parts))}. {remedy}"
            if parts
            else ""
        )

    def _shape_remedy(self) -> str:
        """For the two usual reasons: another number of classes, or of input channels."""
        if self.missing or self.unexpected:
            return ""
        layers = {name.rpartition(".")[0] for name, _, _ in self.wrong_shapes}
        if len(layers) != 1:
            return ""
        _, have, need = max(self.wrong_shapes, key=lambda w: len(w[1]))
        if len(have) != len(need):
            return ""
        if have[0] != need[0] and have[1:] == need[1:]:
            return f"The file's last layer gives {have[0]} outputs: build the network with {have[0]} classes."
        if len(have) == 5 and have[1] != need[1] and (have[0], *have[2:]) == (need[0], *need[2:]):
            return (
                f"The file's first layer takes {have[1]} channels: build the network with {have[1]} "
                "input channels."
            )
        return ""


def named(names: tuple[str, ...]) -> str:
    """A list of names in few words: what they all start with, or the first three."""
    if len(names) == 1:
        return names[0]
    parts = list(
        itertools.takewhile(
            lambda p: len(set(p)) == 1, zip(*(n.split(".") for n in names), strict=False)
        )
    )
    if parts:
        return f"all start with '{'.'.join(part[0] for part in parts)}.'"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _which(names: tuple[str, ...]) -> str:
    text = named(names)
    return f"; {text}" if text.startswith("all ") else f": {text}"


def _are(names: tuple[str, ...]) -> str:
    return "is" if len(names) == 1 else "are"


def match_weights(module: nn.Module, state: dict[str, Tensor]) -> WeightMatch:
    """Compare a file's tensors with what a network needs.

    A prefix of all names, such as "module.", is undone on either side; what a file
    holds beside the network under another prefix (a loss, a metric) is left out.
    """
    expected = module.state_dict()
    needed = [k for k in expected if not _is_counter(k)]
    state, notes = _renamed(state, needed)
    missing = tuple(k for k in needed if k not in state)
    extra = tuple(k for k in state if k not in expected)
    wrong = tuple(
        (k, tuple(state[k].shape), tuple(expected[k].shape))
        for k in expected
        if k in state and state[k].shape != expected[k].shape
    )
    broken = {k for k, _, _ in wrong}
    fitting = {k: v for k, v in state.items() if k in expected and k not in broken}
    bad = tuple(k for k, v in fitting.items() if v.is_floating_point() and not v.isfinite().all())
    return WeightMatch(fitting, len(needed), missing, extra, wrong, bad, notes)


def load_weights(
    module: nn.Module, state: dict[str, Tensor], name: str, path: Any
) -> tuple[str, ...]:
    """Load tensors that have to fit completely; returns notes on what was done to their names.

    Raises
    ------
    CheckpointError
        With what is missing or too much summed up, or the shapes that differ.
    """
    match = match_weights(module, state)
    if not match.fits:
        only_values = not (match.missing or match.unexpected or match.wrong_shapes)
        what = f"{path} cannot be used" if only_values else f"{path} does not fit {name}"
        raise CheckpointError(f"{what}: {match.problem()}")
    expected = module.state_dict()
    half = {v.dtype for v in match.state.values()} & {torch.float16, torch.bfloat16}
    module.load_state_dict(
        {k: v.to(expected[k].dtype) for k, v in match.state.items()}, strict=False
    )
    kind = ", ".join(str(t).removeprefix("torch.") for t in half)
    return match.notes + ((f"weights stored in {kind}, used in float32",) if half else ())


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _renamed(
    state: dict[str, Tensor], needed: list[str]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """`state` under the network's names, if a prefix on one side is all that differs."""
    if not needed or set(needed) <= set(state):
        return state, ()
    own = needed[0]
    while own := own.rpartition(".")[0]:  # a prefix that the network has and the file has not
        if {f"{own}.{k}" for k in state if not _is_counter(k)} <= set(needed):
            return {f"{own}.{k}": v for k, v in state.items()}, ()
    found: Counter[str] = Counter()
    for key in state:
        for name in (needed[0], needed[-1], needed[len(needed) // 2]):
            if key.endswith(f".{name}"):
                found[key.removesuffix(name)] += 1
    for prefix, _ in found.most_common():
        inside = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if set(needed) <= set(inside):
            others = tuple(k for k in state if not k.startswith(prefix))
            notes = [f"prefix '{prefix}' removed from the names"]
            if others:
                notes.append(
                    f"{len(others)} tensors that are not the network's left out ({named(others)})"
                )
            return inside, tuple(notes)
    return state, ()
