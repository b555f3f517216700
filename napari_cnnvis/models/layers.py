"""What layers a network has: shapes, where their cells lie in the input, which heads allow CAM.

Everything is found by running the network once on a "meta" tensor, which has a
shape but no values, so it costs no memory and no time. Networks whose code looks
at values are run on a volume of zeros instead.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from napari_cnnvis.errors import ComputeError
from napari_cnnvis.models.calling import PLAIN, Call
from napari_cnnvis.models.execution import inspecting, keep_in_place, plain_errors
from napari_cnnvis.models.layouts import LayerGrid, Layout
from napari_cnnvis.models.operations import OperationTracker, Work
from napari_cnnvis.models.restoring import out_of_place, without_values
from napari_cnnvis.models.scores import Part, parts_of_output

__all__ = ["CamHead", "NetworkLayers", "TargetLayer", "find_layers", "input_channels"]

_ACTIVATIONS = (
    nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ReLU6, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU,
    nn.Mish, nn.Softplus, nn.Hardswish, nn.Hardtanh, nn.Tanh, nn.Sigmoid,
)  # fmt: skip
_CONVOLUTIONS = (nn.Conv3d, nn.ConvTranspose3d)
#: what may be between a CAM network's last map and its linear layer, that layer included
_OF_AVERAGES = {
    *("mean", "sum", "div", "mul", "_adaptive_avg_pool3d", "_adaptive_avg_pool2d", "avg_pool3d"),
    *("adaptive_avg_pool3d", "avg_pool2d", "view", "_unsafe_view", "reshape", "squeeze", "unsqueeze"),
    *("permute", "transpose", "t", "clone", "_to_copy", "detach", "alias", "select", "expand", "slice"),
    *("addmm", "mm", "linear", "mkldnn_linear"),
}  # fmt: skip
#: the recommended layer is the deepest that still has this many cells along each axis
_FINE_ENOUGH = 7


@dataclass(frozen=True)
class TargetLayer:
    """A layer that Grad-CAM can explain: its name, output channels, cells and where they lie.

    ``layout`` says how channels and cells are found in what it gives; None if that is
    (n, channels, a, b, c). ``runs`` is how often it runs in a pass; the last time counts.
    """

    name: str
    channels: int
    shape: tuple[int, int, int]
    grid: LayerGrid | None
    layout: Layout | None = None
    runs: int = 1

    def map_of(self, output: torch.Tensor) -> torch.Tensor:
        """What it gives for one scan as a map (1, channels, a, b, c)."""
        return output if self.layout is None else self.layout.map_of(output)


@dataclass(frozen=True)
class CamHead:
    """The end of a CAM network: the layer that enters the global average pool, and the linear layer."""

    features: TargetLayer
    linear: str


@dataclass(frozen=True)
class NetworkLayers:
    """Target layers in forward order, the recommended one, and the CAM head or why there is none.

    ``others`` are further layers whose output is a map, by name: those that give what a target
    gives, run several times, or are of another kind; ``without_effect`` are layers whose cells
    have no say in the scores. ``parts`` are the tensors that it gives, ``ends`` by name what each comes out of directly
    ("softmax", "log_softmax", "sigmoid" or ""); ``squashes`` says whether anything may have made
    probabilities, ``random`` whether random numbers were drawn. ``multiply_adds`` is the work of
    one pass, ``effort`` the same with more weight on convolutions of few channels, which are
    slower, ``work`` the same for each operation, ``written_bytes`` the size of all maps that it makes, ``peak_bytes`` the largest pair
    of outputs that are needed at once.
    """

    targets: tuple[TargetLayer, ...]
    recommended: str | None
    cam_head: CamHead | None
    no_cam_reason: str
    peak_bytes: int
    others: Mapping[str, TargetLayer] = field(default_factory=dict)
    without_effect: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    ends: tuple[tuple[str, str], ...] = ()
    squashes: bool = False
    random: bool = False
    multiply_adds: float = 0.0
    written_bytes: float = 0.0
    effort: float = 0.0
    work: tuple[Work, ...] = ()

    def share_of(self, sizes: np.ndarray) -> float:
        """Which share of a pass boxes of (n, 3) voxels can change at most, on average; roughly."""
        if not self.multiply_adds:
            return 1.0
        changed = sum(w.multiply_adds * float(w.share_of(sizes).mean()) for w in self.work)
        return changed / self.multiply_adds


@dataclass(frozen=True, eq=False)
class _Run:
    """That a module has run: the map that it gave, if it is one, and what had been carried out."""

    name: str
    module: nn.Module
    layer: TargetLayer | None
    number: int
    operations: int


def find_layers(
    module: nn.Module, input_shape: tuple[int, ...], call: Call = PLAIN
) -> NetworkLayers:
    """Find the layers of a network.

    Parameters
    ----------
    module : nn.Module
    input_shape : tuple of int
        (channels, i, j, k) of one input.
    call : Call, optional
        How it is called.

    Returns
    -------
    NetworkLayers

    Raises
    ------
    ComputeError
        If the network cannot run on an input of this shape.
    """
    ran, tracker, output = _probe(module, input_shape, call)
    runs = Counter(one.name for one in ran)
    targets, seen, others, without_effect = [], set(), {}, []
    for one in ran:
        if one.layer is None:
            continue
        if one.layer.layout and one.layer.layout.cut and one.operations > tracker.last_mixing:
            without_effect.append(one.name)  # tokens after which only the class token is read
        elif runs[one.name] > 1 or one.number in seen or not _is_target(one.module, one.layer):
            others[one.name] = replace(one.layer, runs=runs[one.name])
        else:
            seen.add(one.number)
            targets.append(one.layer)
    recommended = _recommend(targets)
    head, reason = _cam_head(ran, tracker.operations, recommended)
    given = list(parts_of_output(output))
    return NetworkLayers(
        tuple(targets),
        recommended,
        head,
        reason,
        tracker.peak_bytes,
        others,
        tuple(without_effect),
        tuple(Part(name, tuple(map(int, tensor.shape))) for name, tensor in given),
        tuple((name, tracker.last_operation(tensor)) for name, tensor in given),
        tracker.squashes,
        tracker.random,
        tracker.multiply_adds,
        tracker.written_bytes,
        tracker.effort,
        tuple(tracker.work),
    )


def _probe(
    module: nn.Module, input_shape: tuple[int, ...], call: Call
) -> tuple[list[_Run], OperationTracker, Any]:
    """Run on a tensor without values or, if that is not possible, on a volume of zeros."""
    x = torch.empty((1, *input_shape), device="meta")

    def run_on_shapes() -> Any:
        with without_values(module):
            return call.run(module, x)

    if not any(isinstance(m, torch.jit.ScriptModule) for m in module.modules()):
        try:
            return _watch(module, x, run_on_shapes)
        except ComputeError as exc:
            if "meta" not in str(exc.__cause__).lower():
                raise  # not code that looks at values, or names a device: it would fail again
    device = next((t.device for t in module.parameters()), torch.device("cpu"))
    zeros = torch.zeros((1, *input_shape), device=device)
    return _watch(module, zeros, lambda: call.run(module, zeros))


def _watch(
    module: nn.Module, x: torch.Tensor, run: Callable[[], Any]
) -> tuple[list[_Run], OperationTracker, Any]:
    """Run, and note what each layer gives."""
    runs: list[_Run] = []

    def note(name: str, layer: nn.Module, output: Any) -> None:
        found, number = None, -1
        if isinstance(output, torch.Tensor):
            found, number = _layer_of(name, output, tracker), tracker.number(output)
        runs.append(_Run(name, layer, found, number, len(tracker.operations)))

    handles = []
    tracker, overwritten = OperationTracker(x), _Overwritten()
    try:
        if not isinstance(module, torch.jit.ScriptModule):
            for name, child in module.named_modules():
                if overwritten.concerns(child):
                    handles.append(child.register_forward_hook(overwritten.note))
                if name:
                    handles.append(
                        child.register_forward_hook(lambda m, _, out, name=name: note(name, m, out))
                    )
        shape = " x ".join(map(str, x.shape[2:]))
        with (
            inspecting(module),
            out_of_place(module),  # an output that is written over would not be listed
            torch.no_grad(),
            plain_errors(f"reading {x.shape[1]} channel(s) of {shape} voxels"),
            tracker,
            overwritten,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # of calls that are only tried
            output = run()
    finally:
        for handle in handles:
            handle.remove()
    if overwritten.read_again:
        keep_in_place(module)
    return runs, tracker, output


class _Overwritten(TorchFunctionMode):
    """Notices a map that is read again after an activation in place would have written over it.

    Such a network's results are other ones when its activations do not work in place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.read_again = False
        self._places: dict[int, torch.Tensor] = {}

    @staticmethod
    def concerns(layer: nn.Module) -> bool:
        """Whether a layer writes into its input in evaluation mode."""
        writes = getattr(layer, "inplace", False) is True
        return writes and not isinstance(layer, nn.modules.dropout._DropoutNd)

    def note(self, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """After such a layer: its input would be gone."""
        for value in inputs:
            if isinstance(value, torch.Tensor):
                self._places[_place(value)] = value  # held, so that nothing else lies there

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._places and getattr(func, "__name__", "") not in _ABOUT_SHAPES:
            given = (*args, *(kwargs or {}).values())
            nested = (
                v
                for value in given
                for v in (value if isinstance(value, list | tuple) else [value])
            )
            self.read_again |= any(
                isinstance(v, torch.Tensor) and _place(v) in self._places for v in nested
            )
        return func(*args, **(kwargs or {}))


#: what is asked of a tensor without reading it
_ABOUT_SHAPES = {"__get__", "size", "dim", "numel", "stride", "untyped_storage", "is_contiguous"}


def _place(tensor: torch.Tensor) -> int:
    """Names the memory that a tensor or its views lie in."""
    return tensor.untyped_storage()._cdata


def _is_target(module: nn.Module, layer: TargetLayer) -> bool:
    """Convolutions, activations, and blocks (whatever is not a plain layer of torch)."""
    if isinstance(module, (*_CONVOLUTIONS, *_ACTIVATIONS)):
        return True
    if layer.layout is not None and next(module.parameters(), None) is None:
        return False  # puts tokens into another order
    return any(module.children()) or not type(module).__module__.startswith("torch.nn")


def _layer_of(name: str, output: torch.Tensor, tracker: OperationTracker) -> TargetLayer | None:
    """What a layer gives, if it has cells: of a 5D tensor more than one, of tokens along each axis."""
    place = tracker.place(output)
    layout = place.layout() if place is not None and place.counts else None
    if layout is None:
        return None
    channels, *cells = layout.shape
    if max(cells) < 2 or (output.ndim != 5 and min(cells) < 2):
        return None
    plain = layout.is_plain and layout.shape == tuple(output.shape[1:])
    shape = (cells[0], cells[1], cells[2])
    return TargetLayer(name, channels, shape, layout.grid, None if plain else layout)


def _recommend(targets: list[TargetLayer]) -> str | None:
    fine = [t.name for t in targets if min(t.shape) >= _FINE_ENOUGH]
    if fine:
        return fine[-1]
    return max(reversed(targets), key=lambda t: min(t.shape)).name if targets else None


def _cam_head(
    runs: list[_Run], operations: list[str], recommended: str | None
) -> tuple[CamHead | None, str]:
    instead = f"use Grad-CAM on {recommended}" if recommended else "use sensitivity"
    last_map = max((i for i, one in enumerate(runs) if one.layer is not None), default=None)
    if last_map is None:
        return None, f"This net has no 3D feature maps, so CAM does not apply; {instead}."
    features = runs[last_map].layer
    assert features is not None
    after = [one for one in runs[last_map + 1 :] if not any(one.module.children())]
    weighted = [c for c in after if any(True for _ in c.module.parameters(recurse=False))]
    if (
        len(weighted) == 1
        and isinstance(weighted[0].module, nn.Linear)
        and weighted[0].module.in_features == features.channels
    ):
        between = set(operations[runs[last_map].operations : weighted[0].operations])
        if between <= _OF_AVERAGES:
            return CamHead(features, weighted[0].name), ""
        named = ", ".join(sorted(between - _OF_AVERAGES)[:5])
        return None, (
            f"Between {features.name} and {weighted[0].name} this net does more than a global average "
            f"pool ({named}), so CAM does not apply; {instead}."
        )
    ends = [c.name for c in after if isinstance(c.module, nn.Flatten) or c in weighted]
    if len(ends) > 6:
        ends = [*ends[:3], "...", ends[-1]]
    names = ", ".join(ends)
    return None, (
        f"This net ends in {names or 'something else'}, not in a global average pool and one linear "
        f"layer, so CAM does not apply; {instead}."
    )


def input_channels(module: nn.Module) -> int:
    """How many channels a network's first 3D convolution takes; 1 if it has none."""
    for layer in module.modules():
        weights = getattr(layer, "weight", None)
        if isinstance(weights, torch.Tensor) and weights.ndim == 5:
            transposed = isinstance(layer, nn.ConvTranspose3d)
            groups = getattr(layer, "groups", 1)
            return weights.shape[0] if transposed else weights.shape[1] * groups
    return 1
