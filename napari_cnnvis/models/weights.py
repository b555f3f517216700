"""How a file's weights and a network's go together, said in few words."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.weight_names import is_counter, named, renamed

__all__ = ["WeightMatch", "load_weights", "match_weights"]


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
    torn : tuple of str
        Two names of what is one tensor in the network, but two in the file.
    notes : tuple of str
        What was done to the names.
    advice : str
        What to do instead of naming another network.
    """

    state: dict[str, Tensor]
    expected: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong_shapes: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    not_finite: tuple[str, ...]
    torn: tuple[str, ...]
    notes: tuple[str, ...]
    advice: str = ""

    @property
    def fits(self) -> bool:
        """Whether the network can be used with these weights."""
        wrong = self.missing or self.unexpected or self.wrong_shapes or self.torn
        return not (wrong or self.not_finite)

    @property
    def matched(self) -> int:
        """How many of the network's tensors are there with the right shape."""
        return self.expected - len(self.missing) - len(self.wrong_shapes)

    def problem(self) -> str:
        """What is wrong and what to do, as sentences; "" if all is well."""
        parts = []
        remedy = self.advice or "Name the network that these weights were saved from."
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
        if not parts and self.torn:
            parts.append(
                f"{self.torn[0]} and {self.torn[1]} are one and the same in the network, but differ "
                "in the file"
            )
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


def _which(names: tuple[str, ...]) -> str:
    text = named(names)
    return f"; {text}" if text.startswith("all ") else f": {text}"


def _are(names: tuple[str, ...]) -> str:
    return "is" if len(names) == 1 else "are"


def match_weights(module: nn.Module, state: dict[str, Tensor]) -> WeightMatch:
    """Compare a file's tensors with what a network needs.

    Wrappers in the names and a prefix of all names, such as "module.", are undone on either
    side; what a file holds beside the network under another prefix (a loss, a metric) is left
    out. A tensor that the network has under several names may be there under one of them.
    Where the names still differ, the network itself is asked, as modules may convert the
    names of older versions of themselves while they load.
    """
    expected = {k: v for k, v in module.state_dict(keep_vars=True).items() if isinstance(v, Tensor)}
    state, notes = renamed(state, list(expected))
    state = _with_shared(state, expected)
    match = _compared(state, expected, notes)
    if match.missing or match.unexpected:
        converted = _converted(module, state)
        if converted is not None:
            said = (*notes, "names converted by the network's own code")
            return _compared(converted, expected, said)
    return match


def _compared(
    state: dict[str, Tensor], expected: dict[str, Tensor], notes: tuple[str, ...]
) -> WeightMatch:
    needed = [k for k in expected if not is_counter(k)]
    missing = tuple(k for k in needed if k not in state)
    extra = tuple(k for k in state if k not in expected and not is_counter(k))
    wrong = tuple(
        (k, tuple(state[k].shape), tuple(expected[k].shape))
        for k in expected
        if k in state and not is_lazy(expected[k]) and state[k].shape != expected[k].shape
    )
    broken = {k for k, _, _ in wrong}
    fitting = {k: v for k, v in state.items() if k in expected and k not in broken}
    bad = tuple(k for k, v in fitting.items() if v.is_floating_point() and not v.isfinite().all())
    torn = _torn(fitting, expected)
    return WeightMatch(fitting, len(needed), missing, extra, wrong, bad, torn, notes)


def _shared_names(expected: dict[str, Tensor]) -> list[list[str]]:
    """Names of one and the same tensor, or of tensors that are the same numbers in memory."""
    names: dict[Any, list[str]] = {}
    for name, tensor in expected.items():
        placed = not (is_lazy(tensor) or tensor.is_meta or tensor.numel() == 0)
        place = (tensor.data_ptr(), tensor.shape, tensor.stride()) if placed else id(tensor)
        names.setdefault(place, []).append(name)
    return [group for group in names.values() if len(group) > 1]


def _with_shared(state: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """A tensor that is there under one of its names, under all of them."""
    state = dict(state)
    for group in _shared_names(expected):
        there = next((state[name] for name in group if name in state), None)
        if there is not None:
            state |= {name: there for name in group if name not in state}
    return state


def _torn(state: dict[str, Tensor], expected: dict[str, Tensor]) -> tuple[str, ...]:
    """Two names of one tensor of the network that are two tensors in the file; or nothing."""
    for first, *others in _shared_names(expected):
        for other in others:
            if not {first, other} <= set(state):
                continue
            one, two = state[first], state[other]
            if one.shape != two.shape or not torch.equal(one.nan_to_num(), two.nan_to_num()):
                return first, other
    return ()


def _converted(module: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """What the network itself makes of a file's tensors, or None if it does not take them.

    They are loaded into a copy whose numbers were all put to NaN, so that code that leaves
    some of them as they were is found out.
    """
    if any(is_lazy(t) for t in (*module.parameters(), *module.buffers())):
        return None
    try:
        trial = copy.deepcopy(module)
        with torch.no_grad():
            for tensor in trial.state_dict().values():
                if tensor.is_floating_point():
                    tensor.fill_(torch.nan)
        nn.Module.load_state_dict(trial, dict(state), strict=True)
    except Exception:  # the network's code can raise anything; the names are compared instead
        return None
    result = trial.state_dict()
    given_nan = any(v.is_floating_point() and v.isnan().any() for v in state.values())
    left = any(v.is_floating_point() and v.isnan().any() for v in result.values())
    return None if left and not given_nan else result


def load_weights(module: nn.Module, match: WeightMatch, name: str, path: Any) -> tuple[str, ...]:
    """Load tensors that have to fit completely; returns notes on what was done to their names.

    Raises
    ------
    CheckpointError
        With what is missing or too much summed up, or the shapes that differ.
    """
    if not match.fits:
        only_values = not (match.missing or match.unexpected or match.wrong_shapes or match.torn)
        what = f"{path} cannot be used" if only_values else f"{path} does not fit {name}"
        raise CheckpointError(f"{what}: {match.problem()}")
    own = {name: tensor.dtype for name, tensor in module.state_dict().items()}
    stored = {
        (v.dtype, own[k]): None
        for k, v in match.state.items()
        if v.dtype in (torch.float16, torch.bfloat16) and v.dtype != own[k]
    }
    module.load_state_dict({k: v.to(own[k]) for k, v in match.state.items()}, strict=False)
    return match.notes + tuple(
        f"weights stored in {_kind(of_file)}, used in {_kind(used)}" for of_file, used in stored
    )


def _kind(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
