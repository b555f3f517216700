"""What layers a network has: shapes, where their cells lie in the input, which heads allow CAM.

Everything is found by running the network once on a "meta" tensor, which has a
shape but no values, so it costs no memory and no time, whatever the network.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from napari_cnnvis.models.running import inspecting, plain_errors

__all__ = ["CamHead", "LayerGrid", "NetworkLayers", "TargetLayer", "find_layers"]

_ACTIVATIONS = (
    nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ReLU6, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU,
    nn.Mish, nn.Softplus, nn.Hardswish, nn.Hardtanh, nn.Tanh, nn.Sigmoid,
)  # fmt: skip
_CONVOLUTIONS = (nn.Conv3d, nn.ConvTranspose3d)
#: the recommended layer is the deepest that still has this many cells along each axis
_FINE_ENOUGH = 7


@dataclass(frozen=True)
class LayerGrid:
    """Where a layer's cells lie: cell n along an axis is centred on input voxel start + step * n.

    The centre is that of the cell's receptive field.
    """

    start: tuple[float, ...]
    step: tuple[float, ...]


@dataclass(frozen=True)
class TargetLayer:
    """A layer that Grad-CAM can explain: its name, output channels, output shape and grid."""

    name: str
    channels: int
    shape: tuple[int, int, int]
    grid: LayerGrid | None


@dataclass(frozen=True)
class CamHead:
    """The end of a CAM network: the layer that enters the global average pool, and the linear layer."""

    features: TargetLayer
    linear: str


@dataclass(frozen=True)
class NetworkLayers:
    """Target layers in forward order, the recommended one, and the CAM head or why there is none."""

    targets: tuple[TargetLayer, ...]
    recommended: str | None
    cam_head: CamHead | None
    no_cam_reason: str
    n_outputs: int
    peak_bytes: int


@dataclass
class _Call:
    name: str
    module: nn.Module
    output: Any


def find_layers(module: nn.Module, input_shape: tuple[int, ...]) -> NetworkLayers:
    """Find the layers of a network.

    Parameters
    ----------
    module : nn.Module
    input_shape : tuple of int
        (channels, i, j, k) of one input.

    Returns
    -------
    NetworkLayers

    Raises
    ------
    ComputeError
        If the network cannot run on an input of this shape.
    """
    calls, tracker, output = _probe(module, input_shape)
    counts = Counter(call.name for call in calls)
    targets, seen = [], set()
    for call in calls:
        if not _is_map(call.output) or counts[call.name] > 1 or id(call.output) in seen:
            continue
        if _is_target(call.module):
            seen.add(id(call.output))
            targets.append(_target_layer(call, tracker))
    recommended = _recommend(targets)
    head, reason = _cam_head(calls, tracker, recommended)
    n_outputs = output.shape[1] if isinstance(output, torch.Tensor) and output.ndim == 2 else 0
    return NetworkLayers(tuple(targets), recommended, head, reason, n_outputs, tracker.peak_bytes)


def _probe(
    module: nn.Module, input_shape: tuple[int, ...]
) -> tuple[list[_Call], _GridTracker, torch.Tensor]:
    calls: list[_Call] = []
    handles = []
    for name, child in module.named_modules():
        if name:
            handles.append(
                child.register_forward_hook(
                    lambda m, _, out, name=name: calls.append(_Call(name, m, out))
                )
            )
    meta = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]
    }
    x = torch.empty((1, *input_shape), device="meta")
    tracker = _GridTracker(x)
    shape = " x ".join(map(str, input_shape[1:]))
    try:
        with (
            inspecting(module),
            torch.no_grad(),
            plain_errors(f"reading {input_shape[0]} channel(s) of {shape} voxels"),
            tracker,
        ):
            output = torch.func.functional_call(module, meta, (x,))
    finally:
        for handle in handles:
            handle.remove()
    return calls, tracker, output


class _GridTracker(TorchDispatchMode):
    """Follows each tensor's place in the input through every operation that torch carries out."""

    def __init__(self, x: torch.Tensor) -> None:
        super().__init__()
        self._grids = {id(x): LayerGrid((0.0,) * 3, (1.0,) * 3)}
        self._alive = [x]  # an id is only good as long as its tensor lives
        self.peak_bytes = 0

    def grid(self, tensor: torch.Tensor) -> LayerGrid | None:
        return self._grids.get(id(tensor))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        output = result[0] if isinstance(result, tuple | list) and result else result
        if _is_5d(output):
            tensors = list(_tensors(args))
            source = next((t for t in tensors if id(t) in self._grids), None)
            if source is not None:
                grid = self._follow(func, args, source, output)
                if grid is not None:
                    self._grids[id(output)] = grid
                    self._alive.append(output)
            bytes_here = sum(t.numel() * t.element_size() for t in [*tensors[:1], output])
            self.peak_bytes = max(self.peak_bytes, bytes_here)
        return result

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
            return LayerGrid(tuple(start), grid.step)
        return grid if output.shape[2:] == source.shape[2:] else None


def _window(grid: LayerGrid, kernel: Any, stride: Any, padding: Any, dilation: Any) -> LayerGrid:
    kernel, stride, padding, dilation = (_triple(v) for v in (kernel, stride, padding, dilation))
    start = tuple(
        grid.start[a] + grid.step[a] * ((kernel[a] - 1) * dilation[a] / 2 - padding[a])
        for a in range(3)
    )
    return LayerGrid(start, tuple(grid.step[a] * stride[a] for a in range(3)))


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


def _is_map(output: Any) -> bool:
    """A 5D output with more than one position."""
    return _is_5d(output) and output.shape[2:].numel() > 1


def _is_target(module: nn.Module) -> bool:
    """Convolutions, activations, and blocks (whatever is not a plain layer of torch)."""
    if isinstance(module, (*_CONVOLUTIONS, *_ACTIVATIONS)):
        return True
    return any(module.children()) or not type(module).__module__.startswith("torch.nn")


def _target_layer(call: _Call, tracker: _GridTracker) -> TargetLayer:
    _, channels, *shape = call.output.shape
    return TargetLayer(call.name, channels, tuple(shape), tracker.grid(call.output))


def _recommend(targets: list[TargetLayer]) -> str | None:
    fine = [t.name for t in targets if min(t.shape) >= _FINE_ENOUGH]
    if fine:
        return fine[-1]
    return max(targets, key=lambda t: min(t.shape)).name if targets else None


def _cam_head(
    calls: list[_Call], tracker: _GridTracker, recommended: str | None
) -> tuple[CamHead | None, str]:
    instead = f"use Grad-CAM on {recommended}" if recommended else "use sensitivity"
    last_map = max((i for i, call in enumerate(calls) if _is_map(call.output)), default=None)
    if last_map is None:
        return None, f"This net has no 3D feature maps, so CAM does not apply; {instead}."
    after = [call for call in calls[last_map + 1 :] if not any(call.module.children())]
    weighted = [c for c in after if any(True for _ in c.module.parameters(recurse=False))]
    channels = calls[last_map].output.shape[1]
    if (
        len(weighted) == 1
        and isinstance(weighted[0].module, nn.Linear)
        and weighted[0].module.in_features == channels
        and not any("Max" in type(c.module).__name__ for c in after)
    ):
        return CamHead(_target_layer(calls[last_map], tracker), weighted[0].name), ""
    names = ", ".join(c.name for c in after if isinstance(c.module, nn.Flatten) or c in weighted)
    return None, (
        f"This net ends in {names or 'something else'}, not in a global average pool and one linear "
        f"layer, so CAM does not apply; {instead}."
    )
