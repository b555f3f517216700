"""Watch a network's tensor operations: where each map's cells lie in the input, and the work done."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["LayerGrid", "OperationTracker", "is_map"]


@dataclass(frozen=True)
class LayerGrid:
    """Where a layer's cells lie: cell n along an axis is centred on input voxel start + step * n.

    The centre is that of the cell's receptive field, which is `size` input voxels wide, those
    beyond the input's edges included. Where branches of unlike reach meet, it holds them all.
    What reaches a cell through the statistics of norm layers or through attention over the whole
    map is not counted.
    """

    start: tuple[float, ...]
    step: tuple[float, ...]
    size: tuple[float, ...] = (1.0, 1.0, 1.0)


class OperationTracker(TorchDispatchMode):
    """Follows each tensor's place in the input through every operation that torch carries out."""

    def __init__(self, x: torch.Tensor) -> None:
        super().__init__()
        self._grids = {id(x): LayerGrid((0.0,) * 3, (1.0,) * 3)}
        self._alive = [x]  # an id is only good as long as its tensor lives
        self._made_by: dict[int, Any] = {}
        self._meta = x.is_meta
        self.peak_bytes = 0
        self.multiply_adds = 0.0
        self.written_bytes = 0.0
        self.effort = 0.0
        self.maximum_after_maps = False
        #: whether what may make probabilities, or draws random numbers, was carried out
        self.squashes = self.random = False

    def grid(self, tensor: torch.Tensor) -> LayerGrid | None:
        return self._grids.get(id(tensor))

    def last_operation(self, scores: torch.Tensor | None) -> str:
        """What the scores come out of: "softmax", "log_softmax", "sigmoid" or ""."""
        return self._made_by.get(id(scores), "")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        output = result[0] if isinstance(result, tuple | list) and result else result
        self._count(func, args, output)
        name = func.overloadpacket.__name__.rstrip("_")
        self.squashes |= name in _SQUASHING and not _is_5d(output)
        self.random |= name in _RANDOM
        if is_map(output):
            self.maximum_after_maps = False
        elif func in _MAXIMA:
            self.maximum_after_maps = True
        if isinstance(output, torch.Tensor) and output.numel() <= _FEW and not is_map(output):
            self._alive.append(output)
            made_by = _LAST.get(func, "")
            if func in _VIEWS and isinstance(args[0], torch.Tensor):
                made_by = self._made_by.get(id(args[0]), "")
            self._made_by[id(output)] = made_by
        if _is_5d(output):
            tensors = list(_tensors(args))
            source = next((t for t in tensors if id(t) in self._grids), None)
            if source is not None and self._meta:
                grid = self._follow(func, args, source, output)
                if grid is not None:
                    others = (self._grids.get(id(t)) for t in tensors if t is not source)
                    self._grids[id(output)] = _joined(grid, [g for g in others if g is not None])
                    self._alive.append(output)
            bytes_here = sum(t.numel() * t.element_size() for t in [*tensors[:1], output])
            self.peak_bytes = max(self.peak_bytes, bytes_here)
        return result

    def _count(self, func: Any, args: Any, output: Any) -> None:
        aten = torch.ops.aten
        if _is_5d(output):
            self.written_bytes += output.numel() * output.element_size()
        if func is aten.convolution.default:
            weight = args[1]
            cells = args[0].shape if args[6] else output.shape
            work = float(weight[0].numel() * cells[1] * cells[2:].numel())
            self.multiply_adds += work
            self.effort += work * min(8, max(1, 24 / weight.shape[1]))
        elif func in (aten.mm.default, aten.bmm.default):
            self.multiply_adds += float(output.numel() * args[0].shape[-1])
        elif func is aten.addmm.default:
            self.multiply_adds += float(output.numel() * args[1].shape[-1])

    def _follow(
        self, func: Any, args: Any, source: torch.Tensor, output: torch.Tensor
    ) -> LayerGrid | None:
        grid = self._grids[id(source)]
        aten = torch.ops.aten
        if func is aten.convolution.default:
            if args[6]:  # transposed: cells are spread out, not gathered
                return None
            return _window(grid, args[1].shape[2:], args[3], args[4], args[5])
        if func in (aten.max_pool3d_with_indices.default, aten.avg_pool3d.default):
            values = [*args[1:], *[None] * 4]
            dilation = values[3] if func is aten.max_pool3d_with_indices.default else 1
            return _window(grid, values[0], values[1] or values[0], values[2] or 0, dilation or 1)
        if func is aten.constant_pad_nd.default:
            before = [*args[1], *[0] * 6][4::-2]  # the last axis comes first, axes may be left out
            start = (s - d * p for s, d, p in zip(grid.start, grid.step, before, strict=True))
            return LayerGrid(tuple(start), grid.step, grid.size)
        return grid if output.shape[2:] == source.shape[2:] else None


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
_MAXIMA = (
    torch.ops.aten.max_pool3d_with_indices.default,
    torch.ops.aten.adaptive_max_pool3d.default,
    torch.ops.aten.amax.default,
    torch.ops.aten.max.dim,
)
_VIEWS = (
    torch.ops.aten.view.default,
    torch.ops.aten._unsafe_view.default,
    torch.ops.aten.squeeze.dim,
    torch.ops.aten.squeeze.dims,
    torch.ops.aten.squeeze.default,
    torch.ops.aten.unsqueeze.default,
    torch.ops.aten.detach.default,
)


def _window(grid: LayerGrid, kernel: Any, stride: Any, padding: Any, dilation: Any) -> LayerGrid:
    kernel, stride, padding, dilation = (_triple(v) for v in (kernel, stride, padding, dilation))
    start = tuple(
        grid.start[a] + grid.step[a] * ((kernel[a] - 1) * dilation[a] / 2 - padding[a])
        for a in range(3)
    )
    step = tuple(grid.step[a] * stride[a] for a in range(3))
    reach = ((kernel[a] - 1) * dilation[a] * grid.step[a] for a in range(3))
    return LayerGrid(start, step, tuple(s + r for s, r in zip(grid.size, reach, strict=True)))


def _joined(grid: LayerGrid, others: list[LayerGrid]) -> LayerGrid:
    """`grid`, wide enough about its own centres for what others bring to the same cells."""
    size = grid.size
    for other in others:
        away = (2 * abs(o - s) for o, s in zip(other.start, grid.start, strict=True))
        size = tuple(max(s, o + a) for s, o, a in zip(size, other.size, away, strict=True))
    return replace(grid, size=size)


def _triple(value: Any) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * 3 if len(values) == 1 else values


def _tensors(args: Any) -> Any:
    for arg in args:
        if isinstance(arg, torch.Tensor):
            yield arg
        elif isinstance(arg, tuple | list):
            yield from _tensors(arg)


def _is_5d(output: Any) -> bool:
    return isinstance(output, torch.Tensor) and output.ndim == 5


def is_map(output: Any) -> bool:
    """A 5D output of one scan, (1, channels, i, j, k), with more than one position."""
    return _is_5d(output) and output.shape[0] == 1 and output.shape[2:].numel() > 1
