"""Where in what a checkpoint file holds the weights are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from napari_cnnvis.models.formats.pickles import StandIn

__all__ = ["Found", "entry_names", "weights_in"]

#: what is found: the weights by name, a network, or what stands for one
Found = dict[str, Tensor] | nn.Module | StandIn

#: keys that trainers give the weights, the likeliest first
_USUAL = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
#: in the keys of copies of the weights that were averaged or serve another purpose
_SECOND = ("ema", "averag", "swa", "teacher", "momentum", "target", "discriminator")
#: what optimizers keep of each weight
_OF_OPTIMIZERS = {
    *("step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg"),
    *("exp_inf", "grad_avg", "acc_delta", "sum", "ax", "eta", "mu", "prev", "step_size"),
}
#: so many dictionaries in one another are looked into, and so many in all
_DEEPEST, _MOST = 20, 10_000


def weights_in(content: Any) -> dict[str, Found]:
    """The sets of weights, and the networks, in nested dictionaries and lists, the likeliest first.

    Parameters
    ----------
    content : object
        What a file holds.

    Returns
    -------
    dict
        By the keys that lead there, such as "state_dict" or "nets.generator"; "" for `content`
        itself. First those under the keys that trainers use, then by their size; averaged
        copies of weights last.

    Examples
    --------
    >>> import torch
    >>> state = {"conv.weight": torch.zeros(2, 1, 3, 3, 3)}
    >>> list(weights_in({"epoch": 3, "params_ema": dict(state), "params": state}))
    ['params', 'params_ema']
    """
    found = dict(_walk(content, (), set()))
    return {
        ".".join(place): found[place]
        for place in sorted(found, key=lambda p: (*_rank(p), -_size(found[p])))
    }


def entry_names(content: Any) -> list[str]:
    """The keys of what a file holds, if it holds a dictionary."""
    return [str(key) for key in content] if isinstance(content, dict) else []


def _walk(
    content: Any, place: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[tuple[str, ...], Found]]:
    if len(place) > _DEEPEST or len(seen) > _MOST or id(content) in seen:
        return  # a dictionary that holds itself has no end
    if isinstance(content, nn.Module) or _is_network(content):
        yield place, content
        return
    items = _items(content)
    if not items or any(key == "param_groups" for key, _ in items):  # of an optimizer
        return
    seen.add(id(content))
    state = {key: value for key, value in items if isinstance(value, Tensor)}
    if state and isinstance(content, Mapping) and not set(state) <= _OF_OPTIMIZERS:
        yield place, state
    for key, value in items:
        if not isinstance(value, Tensor):
            yield from _walk(value, (*place, key), seen)


def _items(content: Any) -> list[tuple[str, Any]]:
    if isinstance(content, StandIn):
        inside = {str(key): value for key, value in content.items()}
        return list({**vars(content), **inside}.items())
    if isinstance(content, Mapping):
        return [(str(key), value) for key, value in content.items()]
    if isinstance(content, Sequence) and not isinstance(content, str | bytes | bytearray):
        return [(str(key), value) for key, value in enumerate(content[:100])]
    return []


def _is_network(content: Any) -> bool:
    return isinstance(content, StandIn) and isinstance(content.__dict__.get("_modules"), dict)


def _rank(place: tuple[str, ...]) -> tuple[bool, int]:
    """How unlikely the keys are to lead to the weights."""
    keys = [key.lower() for key in place]
    usual = [_USUAL.index(key) for key in keys if key in _USUAL]
    second = any(word in key for key in keys for word in _SECOND)
    return second, usual[0] if usual else len(_USUAL)


def _size(found: Found) -> int:
    if isinstance(found, dict) and not isinstance(found, StandIn):
        return sum(tensor.numel() for tensor in found.values())
    return 1 << 62  # a whole network
