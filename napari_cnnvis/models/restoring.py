"""Change a network for a while, and put everything back as it was found."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

__all__ = ["frozen", "out_of_place", "restoring", "without_values"]

#: attributes that every module has; all others are the user's
_OF_MODULES = frozenset(vars(nn.Module()))


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, and no parameter that wants a gradient."""
    training = [(m, m.training) for m in module.modules()]
    wanting = [p for p in module.parameters() if p.requires_grad]
    try:
        with contextlib.suppress(NotImplementedError):  # exported programs have one mode only
            module.eval()
        for parameter in wanting:
            parameter.requires_grad_(False)
        yield
    finally:
        for m, flag in training:
            m.training = flag
        for parameter in wanting:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def restoring(module: nn.Module) -> Iterator[None]:
    """Tensors that the network's code keeps in its modules while it runs are gone after the block.

    That is, in attributes (a cache, a weight computed from others), in lists and dictionaries,
    and in buffers. Parameters are not looked at.
    """
    modules = [m for m in module.modules() if not isinstance(m, torch.jit.ScriptModule)]
    holders: list[dict | list] = [m._buffers for m in modules]
    for m in modules:
        if not isinstance(m, LazyModuleMixin):  # that makes itself in its first pass
            holders.append(vars(m))
            own = (v for name, v in vars(m).items() if name not in _OF_MODULES)
            holders += [v for v in own if type(v) in (dict, list)]
    contents = [(holder, holder.copy()) for holder in holders]
    buffers = [(b, _version(b), b.detach().clone()) for b in module.buffers()]
    try:
        yield
    finally:
        for holder, content in contents:
            _put_back(holder, content)
        for buffer, version, values in buffers:
            if version is None or buffer._version != version:
                buffer.data.copy_(values)


@contextlib.contextmanager
def without_values(module: nn.Module) -> Iterator[None]:
    """Parameters and buffers have shapes but no values; those that are shared stay shared.

    Not for networks with parts in TorchScript, whose parameters cannot be exchanged.
    """
    empty: dict[int, torch.Tensor | None] = {id(None): None}
    holders: list[dict[str, Any]] = [
        h for m in module.modules() for h in (m._parameters, m._buffers)
    ]
    contents = [(holder, holder.copy()) for holder in holders]
    for _, content in contents:
        for tensor in content.values():
            if tensor is not None and id(tensor) not in empty:
                empty[id(tensor)] = _without_values(tensor)
    try:
        for holder, content in contents:
            holder.update({name: empty[id(tensor)] for name, tensor in content.items()})
        yield
    finally:
        for holder, content in contents:
            holder.clear()
            holder.update(content)


@contextlib.contextmanager
def out_of_place(module: nn.Module) -> Iterator[None]:
    """Activations give a new tensor where they would write into their input."""
    inplace: list[Any] = [m for m in module.modules() if getattr(m, "inplace", False) is True]
    try:
        for m in inplace:
            m.inplace = False
        yield
    finally:
        for m in inplace:
            m.inplace = True


def _put_back(holder: dict | list, content: dict | list) -> None:
    """Undo changes of tensors; what else has changed (a counter, say) stays."""
    if isinstance(holder, list):
        known = {id(value) for value in content}
        if any(_has_tensor(value) and id(value) not in known for value in holder):
            holder[:] = content
        return
    assert isinstance(content, dict)
    for name in {*holder, *content}:
        before, after = content.get(name), holder.get(name)
        if before is after or not (_has_tensor(before) or _has_tensor(after)):
            continue
        if name in content:
            holder[name] = before
        else:
            del holder[name]


def _has_tensor(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(isinstance(part, torch.Tensor) for part in value)
    return isinstance(value, torch.Tensor)


def _version(tensor: torch.Tensor) -> int | None:
    """Counts what is written into a tensor; None if nobody counts."""
    return None if tensor.is_inference() else tensor._version


def _without_values(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=False)
    return empty
