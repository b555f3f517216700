"""Which number type a network computes in, and networks that nothing can be computed with yet."""

from __future__ import annotations

import copy
import itertools

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from napari_cnnvis.errors import ComputeError

__all__ = ["check_initialised", "number_type", "widened"]

_HALF = (torch.float16, torch.bfloat16)


def number_type(module: nn.Module) -> torch.dtype:
    """The floating type of a network's first weight; float32 if it has none."""
    tensors = itertools.chain(module.parameters(), module.buffers())
    return next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)


def widened(module: nn.Module) -> nn.Module | None:
    """A copy in float32 of a network in half precision, whose gradients would vanish there.

    None for networks in other types, and for programs, whose code has the type in it.

    Examples
    --------
    >>> net = nn.Conv3d(1, 2, 3).half()
    >>> number_type(widened(net)), number_type(net)
    (torch.float32, torch.float16)
    """
    program = any(
        isinstance(m, torch.jit.ScriptModule | torch.fx.GraphModule) for m in module.modules()
    )
    if program or number_type(module) not in _HALF:
        return None
    return copy.deepcopy(module).float()


def check_initialised(module: nn.Module) -> None:
    """Raise if a network has layers whose weights do not exist before it has run.

    Raises
    ------
    ComputeError
        With the first of them.
    """
    for name, part in module.named_modules():
        own = itertools.chain(part.parameters(recurse=False), part.buffers(recurse=False))
        if any(is_lazy(tensor) for tensor in own):
            raise ComputeError(
                f"The network's layer '{name}' ({type(part).__name__}) has no weights yet: it makes them "
                "in its first pass. Load its weights, or run the network once on an input of its size."
            )
