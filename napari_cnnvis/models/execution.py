"""Run a user's network without changing it, and put torch's errors in plain words."""

from __future__ import annotations

import contextlib
import itertools
import re
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from napari_cnnvis.errors import ComputeError, shortened
from napari_cnnvis.models.gradient_flow import without_checkpoints
from napari_cnnvis.models.restoring import frozen, out_of_place, restoring

__all__ = [
    "OutOfMemory",
    "WrongArguments",
    "arrange_weights",
    "full_float32",
    "inspecting",
    "keep_in_place",
    "pick_device",
    "plain_errors",
]


class OutOfMemory(ComputeError):
    """Memory ran out while the network ran."""


class WrongArguments(ComputeError):
    """The network wants to be called in another way than with a scan."""


def full_float32() -> contextlib.AbstractContextManager[None]:
    """Inside it a GPU's convolutions round as float32 does, and the same in each run."""
    if not torch.cuda.is_available():
        return contextlib.nullcontext()
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )


class _AnyLayout(TorchFunctionMode):
    """``view`` as ``reshape`` where maps lie in memory in another way than in training."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        try:
            return func(*args, **(kwargs or {}))
        except RuntimeError as exc:
            if func is not torch.Tensor.view or "reshape" not in str(exc):
                raise
            return args[0].reshape(*args[1:], **(kwargs or {}))


#: networks that read a map again after an activation has written over it
_in_place_on_purpose: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def keep_in_place(module: nn.Module) -> None:
    """Note that a network's results depend on its activations working in place."""
    _in_place_on_purpose.add(module)


@contextlib.contextmanager
def inspecting(module: nn.Module) -> Iterator[nn.Module]:
    """Evaluation mode, frozen parameters, full float32; all as it was found afterwards.

    Activations give new tensors, so that a layer's output is not written over, unless the
    network's results depend on that. Code that takes a memory layout for granted works with
    any. Inside the block parameters want no gradient, so a graph begins only at a tensor that
    is asked for, and no parameter's ``grad`` is touched. Checkpointed code is run plainly.
    """
    as_written = (
        contextlib.nullcontext() if module in _in_place_on_purpose else out_of_place(module)
    )
    plain = as_written, full_float32(), _AnyLayout(), without_checkpoints()
    with restoring(module), frozen(module), contextlib.ExitStack() as stack:
        for context in plain:
            stack.enter_context(context)
        yield module


def arrange_weights(
    module: nn.Module, layout: torch.memory_format = torch.channels_last_3d
) -> nn.Module:
    """Lay the weights of 3D convolutions out channels last, in which most run fastest on a CPU.

    Values and identity of all tensors stay; those of other dimensions stay as they lie.
    """
    with torch.no_grad():
        for tensor in itertools.chain(module.parameters(), module.buffers()):
            if tensor.ndim == 5:
                tensor.data = tensor.data.contiguous(memory_format=layout)
    return module


@contextlib.contextmanager
def plain_errors(doing: str) -> Iterator[None]:
    """Turn what torch raises inside the block into `ComputeError`, saying what was being done.

    Raises
    ------
    OutOfMemory
        If memory ran out.
    ComputeError
        For any other error of the network itself.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as exc:
        raise OutOfMemory(_out_of_memory(doing)) from exc
    except (
        RuntimeError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        AssertionError,
    ) as exc:
        text = str(exc)
        if "memory" in text and ("alloc" in text or "out of" in text):
            raise OutOfMemory(_out_of_memory(doing)) from exc
        lines = text.strip().splitlines()
        first_line = shortened(lines[0].strip() if lines else type(exc).__name__, 300).rstrip(".")
        advice, wrong_call = _advice(exc, first_line)
        raise (WrongArguments if wrong_call else ComputeError)(
            f"The network failed while {doing}: {first_line}. {advice}"
        ) from exc


def _advice(exc: Exception, text: str) -> tuple[str, bool]:
    """What to do about an error of the network's own code; True if it wants other arguments."""
    missing = re.search(r"missing \d+ required (?:positional|keyword-only) arguments?: (.*)", text)
    if missing:
        names = re.findall(r"'(\w+)'", missing[1])
        example = ", ".join(f"'{name}': 0" for name in names[:3])
        return (
            f"It needs more than the scan: give {' and '.join(names)} as numbers, extra={{{example}}} "
            f"in Python, --extra {' '.join(f'{n}=0' for n in names[:3])} on the command line, or the "
            "field 'More inputs' in the panel."
        ), True
    if "unexpected keyword argument" in text:
        return "It knows no such argument; look at its forward for their names.", True
    as_other = ("only integers", "indices", "data type 'str'", "not subscriptable")
    if isinstance(exc, KeyError | IndexError) or any(words in text for words in as_other):
        return (
            "It seems to take a list or a dictionary of inputs; only networks that take one scan, or "
            "a dictionary with the scan as 'image', can be run."
        ), True
    lower = text.lower()
    if any(word in lower for word in ("cuda", "hip ", "xpu", "mps", "cudnn")):
        return (
            "Its code asks for a GPU by itself; take that out of the code, or run on a machine with "
            "such a GPU."
        ), False
    if any(
        word in lower for word in ("scalar type", "dtype", "should be the same", "double", "half")
    ):
        return "Its weights and its code use several number types; save it after .float().", False
    if any(word in lower for word in _ABOUT_SIZES):
        return (
            "Check that the checkpoint's input shape and channels are the ones it was trained with."
        ), False
    return "The error is in the network's own code: try it by itself, without this program.", False


_ABOUT_SIZES = (
    *("shape", "size", "channel", "dimension", "mat1", "kernel", "invalid for input", "must match"),
    *("expected", "stride", "padding", "numel", "negative", "patch", "divisible", "voxel", "input"),
)


def _out_of_memory(doing: str) -> str:
    return (
        f"Memory ran out while {doing}. Close other programs, choose one deeper target layer, or "
        "run on the CPU (device='cpu')."
    )


def pick_device(device: str) -> torch.device:
    """The torch device for "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", "mps".

    Raises
    ------
    ComputeError
        If that device does not exist here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as exc:
        raise ComputeError(
            f"There is no device '{device}' on this machine; use 'auto' or 'cpu'."
        ) from exc
    return chosen
