"""Watch a network's tensor operations: where the cells of its maps lie in the input, and the work done."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from napari_cnnvis.models.following import follow, is_mixing
from napari_cnnvis.models.tensor_axes import Place

__all__ = ["OperationTracker", "Work"]


@dataclass(frozen=True)
class Work:
    """The multiply-adds of one operation, and what its cells depend on.

    Attributes
    ----------
    multiply_adds : float
    step, reach : tuple of float
        Input voxels from cell to cell, and those that each cell sees, along each axis; empty if
        they depend on all of the scan, or that is not known.
    cells : tuple of int
    """

    multiply_adds: float
    step: tuple[float, ...] = ()
    reach: tuple[float, ...] = ()
    cells: tuple[int, ...] = ()

    def share_of(self, sizes: np.ndarray) -> np.ndarray:
        """Which share of it boxes of (n, 3) voxels can change."""
        if not self.step:
            return np.ones(len(sizes))
        touched = (sizes + np.array(self.reach)) / np.array(self.step)
        return np.minimum(1, touched / np.array(self.cells)).prod(axis=1)


class OperationTracker(TorchDispatchMode):
    """Follows each tensor's place in the input through every operation that torch carries out."""

    def __init__(self, x: torch.Tensor) -> None:
        super().__init__()
        # what is kept of a tensor is gone with it: another one may get its id
        self._places: Any = WeakTensorKeyDictionary()
        self._made_by: Any = WeakTensorKeyDictionary()
        self._numbers: Any = WeakTensorKeyDictionary()
        self._next = itertools.count()
        self._places[x] = Place.of_input(x.shape)
        self.peak_bytes = 0
        self.multiply_adds = 0.0
        self.written_bytes = 0.0
        self.effort = 0.0
        self.work: list[Work] = []
        #: names of the operations in their order, and the number of the last that adds up over cells
        self.operations: list[str] = []
        self.last_mixing = 0
        #: whether all cells of some map went into what follows
        self._gathered = False
        #: whether what may make probabilities, or draws random numbers, was carried out
        self.squashes = self.random = False

    def place(self, tensor: torch.Tensor) -> Place | None:
        """Which axes of a tensor are the scan's; None if nothing is known."""
        return self._places.get(tensor)

    def number(self, tensor: torch.Tensor) -> int:
        """The same for the same tensor, another for each other one."""
        if tensor not in self._numbers:
            self._numbers[tensor] = next(self._next)
        return self._numbers[tensor]

    def last_operation(self, scores: torch.Tensor) -> str:
        """What the scores come out of: "softmax", "log_softmax", "sigmoid" or ""."""
        return self._made_by.get(scores, "")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        output = result[0] if isinstance(result, tuple | list) and result else result
        name = func.overloadpacket.__name__.removesuffix("_")
        self.operations.append(name)
        self.squashes |= name in _SQUASHING and not _is_5d(output)
        self.random |= name in _RANDOM
        if is_mixing(name, args, self.place):
            self.last_mixing = len(self.operations)
        if isinstance(output, torch.Tensor) and output.numel() <= _FEW and not _is_5d(output):
            made_by = _LAST.get(func, "")
            if func in _VIEWS and isinstance(args[0], torch.Tensor):
                made_by = self._made_by.get(args[0], "")
            self._made_by[output] = made_by
        self._follow(name, args, result)
        self._gathered |= _gathers(name, args, self.place)
        self._count(func, args, output)
        if _is_5d(output):
            first = next(_tensors(args), output)
            bytes_here = sum(t.numel() * t.element_size() for t in (first, output))
            self.peak_bytes = max(self.peak_bytes, bytes_here)
        return result

    def _follow(self, name: str, args: Any, result: Any) -> None:
        places = follow(name, args, result, self.place)
        for tensor, place in zip(_tensors([result]), places, strict=True):
            if place is not None:
                self._places[tensor] = place

    def _count(self, func: Any, args: Any, output: Any) -> None:
        aten = torch.ops.aten
        if _is_5d(output):
            self.written_bytes += output.numel() * output.element_size()
        if func is aten.convolution.default:
            weight = args[1]
            cells = args[0].shape if args[6] else output.shape
            work = float(weight[0].numel() * cells[1] * cells[2:].numel())
            self._add(work, output)
            self.effort += work * min(8, max(1, 24 / weight.shape[1]))
        elif func in (aten.mm.default, aten.bmm.default):
            self._add(float(output.numel() * args[0].shape[-1]), output)
        elif func is aten.addmm.default:
            self._add(float(output.numel() * args[1].shape[-1]), output)

    def _add(self, work: float, output: torch.Tensor) -> None:
        self.multiply_adds += work
        place = self.place(output)
        layout = None if place is None or self._gathered else place.layout()
        if layout is None or layout.grid is None:
            self.work.append(Work(work))
        else:
            grid = layout.grid
            self.work.append(Work(work, grid.step, grid.size, layout.shape[1:]))


def _gathers(name: str, args: Any, place_of: Any) -> bool:
    """Whether an operation takes all cells of a map: a mean, a norm's statistics, attention."""
    place = next((p for t in _tensors(args) if (p := place_of(t)) is not None), None)
    if place is None or not place.counts:
        return False
    if name == "native_batch_norm":
        return bool(args[5])  # in training, as of InstanceNorm
    return name in _GATHERING or name.startswith(("_scaled_dot", "_native_multi", "_transformer"))


_GATHERING = {
    *("mean", "sum", "amax", "amin", "var_mean", "var", "std", "_adaptive_avg_pool3d"),
    *("native_group_norm", "adaptive_max_pool3d", "bmm", "_softmax"),
}


_LAST = {
    torch.ops.aten._softmax.default: "softmax",
    torch.ops.aten._log_softmax.default: "log_softmax",
    torch.ops.aten.sigmoid.default: "sigmoid",
    torch.ops.aten.sigmoid_.default: "sigmoid",
}
#: most values that scores are looked for in
_FEW = 10_000
#: operations that probabilities may come from, and those that give other numbers each time
_SQUASHING = {"_softmax", "_log_softmax", "sigmoid", "exp"}
_RANDOM = {
    "bernoulli",
    "native_dropout",
    "rand",
    "randn",
    "rand_like",
    "randn_like",
    "normal",
    "uniform",
    "randint",
    "randperm",
    "multinomial",
    "rrelu_with_noise",
}
_VIEWS = (
    torch.ops.aten.view.default,
    torch.ops.aten._unsafe_view.default,
    torch.ops.aten.squeeze.dim,
    torch.ops.aten.squeeze.dims,
    torch.ops.aten.squeeze.default,
    torch.ops.aten.unsqueeze.default,
    torch.ops.aten.detach.default,
)


def _tensors(args: Any) -> Any:
    for arg in args:
        if isinstance(arg, torch.Tensor):
            yield arg
        elif isinstance(arg, tuple | list):
            yield from _tensors(arg)


def _is_5d(output: Any) -> bool:
    return isinstance(output, torch.Tensor) and output.ndim == 5
