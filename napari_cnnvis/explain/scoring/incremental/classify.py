"""Which operations carry a changed box along, and which need the whole map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from napari_cnnvis.explain.scoring.incremental.geometry import Window
from napari_cnnvis.explain.scoring.incremental.operations import (
    BatchNorm,
    BatchSize,
    Context,
    GlobalPool,
    Operation,
    Pointwise,
    Whole,
    Windowed,
    is_size,
)
from napari_cnnvis.explain.scoring.incremental.patches import convolve
from napari_cnnvis.explain.scoring.incremental.trace import CannotTrace, Trace, shape_of

__all__ = ["Program", "classify"]

_POINTWISE = {
    "relu", "relu6", "leaky_relu", "prelu", "elu", "celu", "selu", "gelu", "silu", "mish",
    "sigmoid", "log_sigmoid", "tanh", "softplus", "hardtanh", "hardswish", "hardsigmoid",
    "threshold", "clamp", "clamp_min", "clamp_max", "abs", "neg", "exp", "log", "sqrt", "rsqrt",
    "square", "pow", "reciprocal", "add", "sub", "rsub", "mul", "div", "maximum", "minimum",
    "where", "addcmul",
}  # fmt: skip
_SAME = {"clone", "alias", "detach", "contiguous", "lift_fresh_copy"}
_CASTS = {"to", "type_as", "_to_copy"}
_SPACE = {2, 3, 4}


@dataclass(frozen=True, eq=False)
class Program:
    """A network as operations on changed boxes.

    Attributes
    ----------
    operations : tuple of Operation
        In the order in which they run.
    constants : dict of fx.Node
        Weights, and what is computed from them alone.
    same : dict of fx.Node to fx.Node
        Nodes that only hand on what another gives (a cast to the type that it has ...).
    trace : Trace
    """

    operations: tuple[Operation, ...]
    constants: dict[fx.Node, Any]
    same: dict[fx.Node, fx.Node]
    trace: Trace

    @property
    def output(self) -> fx.Node:
        """Gives the logits."""
        return self.same.get(self.trace.output, self.trace.output)

    def mixing(self) -> Whole | None:
        """The first operation that needs whole maps though multiply-adds are yet to come."""
        ahead = 0.0
        found = None
        for operation in reversed(self.operations):
            if isinstance(operation, Whole):
                ahead += operation.work
                if operation.sources and ahead > 0.05 * self.work:
                    found = operation
        return found

    @property
    def work(self) -> float:
        """Multiply-adds of a full pass."""
        return sum(
            op.work * (1 if isinstance(op, Whole) else float(op.grid.prod()))
            for op in self.operations
        )


def classify(trace: Trace) -> Program:
    """Decide for each node of a trace how a changed box gets through it.

    Raises
    ------
    CannotTrace
        If the output is not logits (n, n_classes).
    """
    shape = shape_of(trace.output)
    if len(shape) != 2 or isinstance(shape[0], int):
        raise CannotTrace("it does not give one row of scores for each input")
    boxed: set[fx.Node] = {trace.input}
    varying: set[fx.Node] = {trace.input}
    same: dict[fx.Node, fx.Node] = {}
    constants: dict[fx.Node, Any] = dict(trace.constants)
    operations: list[Operation] = []
    for node in trace.nodes:
        node.args = fx.node.map_arg(node.args, lambda n: same.get(n, n))
        node.kwargs = fx.node.map_arg(node.kwargs, lambda n: same.get(n, n))
        inputs = node.all_input_nodes
        if not any(n in varying for n in inputs):
            with torch.no_grad():
                constants[node] = Context(constants, {}, {}).call(node, {})
            continue
        varying.add(node)
        if _hands_on(node) and inputs[0] in varying:
            same[node] = inputs[0]
            continue
        sources = tuple(n for n in inputs if n in boxed)
        operation = _operation(node, sources, constants, boxed)
        operations.append(operation)
        if isinstance(operation, Windowed | Pointwise):
            boxed.add(node)
    program = Program(tuple(operations), constants, same, trace)
    _mark_last_uses(program)
    return program


def _operation(
    node: fx.Node,
    sources: tuple[fx.Node, ...],
    constants: dict[fx.Node, Any],
    boxed: set[fx.Node],
) -> Operation:
    if len(sources) == 1 and _called(node) == "sym_size":
        return BatchSize(node, sources)
    whole = Whole(node, sources, _whole_work(node))
    if not sources or is_size(node) or not isinstance(node.meta.get("val"), Tensor):
        return whole
    called = _called(node)
    if len(sources) == 1 and sources[0] is node.args[0]:
        others = [n for n in node.all_input_nodes if n is not sources[0]]
        if all(n in constants for n in others):
            if called in ("conv3d", "convolution"):
                return _convolution(node, sources[0]) or whole
            if called in ("max_pool3d", "avg_pool3d"):
                return _pooling(node, sources[0]) or whole
            if called in ("pad", "constant_pad_nd"):
                return _padding(node, sources[0]) or whole
            pooled = _pools_everything(node, called)
            if pooled:
                return GlobalPool(node, sources[0], pooled)
    if _is_pointwise(node, called, sources, constants):
        if called == "batch_norm":
            return BatchNorm(node, sources[0], constants)
        return Pointwise(node, sources)
    return whole


def _hands_on(node: fx.Node) -> bool:
    called = _called(node)
    return called in _SAME or (called in _CASTS and _same_type(node))


def _same_type(node: fx.Node) -> bool:
    """Whether a node gives numbers of the type of its first input, on the same device."""
    before, after = node.all_input_nodes[0].meta.get("val"), node.meta.get("val")
    if not (isinstance(before, Tensor) and isinstance(after, Tensor)):
        return False
    return (before.dtype, before.device) == (after.dtype, after.device)


def _is_pointwise(
    node: fx.Node, called: str, sources: tuple[fx.Node, ...], constants: dict[fx.Node, Any]
) -> bool:
    grid = shape_of(node)[2:]
    if len(shape_of(node)) != 5 or any(shape_of(s)[2:] != grid for s in sources):
        return False
    others = [n for n in node.all_input_nodes if n not in sources]
    if any(n not in constants for n in others):
        return False
    if called == "batch_norm":
        return not _argument(node, 5, "training", False)
    if called in ("cat", "concat", "concatenate"):
        return _argument(node, 1, "dim", 0) in (1, -4) and not others
    if called == "prelu":
        return True
    flat = all(_same_everywhere(constants[n]) for n in others)
    return called in _POINTWISE and flat


def _same_everywhere(value: Any) -> bool:
    """Whether a constant, broadcast against a map, is the same at all positions."""
    return not isinstance(value, Tensor) or all(n == 1 for n in value.shape[-3:])


def _pools_everything(node: fx.Node, called: str) -> str | None:
    """ "mean" or "max" if a node pools over all positions of its maps."""
    source = node.args[0]
    if len(shape_of(source)) != 5:
        return None
    if called == "adaptive_avg_pool3d" and all(n == 1 for n in _triple(node.args[1])):
        return "mean"
    if called in ("mean", "amax") and len(node.args) > 1 and _same_type(node):
        given: Any = node.args[1]
        axes = given if isinstance(given, list | tuple) else [given]
        if {a % 5 for a in axes} == _SPACE:
            return "mean" if called == "mean" else "max"
    return None


def _convolution(node: fx.Node, source: fx.Node) -> Windowed | None:
    weight = shape_of(node.args[1])
    if len(weight) != 5:
        return None
    bias = _argument(node, 2, "bias", None)
    stride, padding, dilation = (
        _argument(node, place, name, default)
        for place, name, default in ((3, "stride", 1), (4, "padding", 0), (5, "dilation", 1))
    )
    if _called(node) == "convolution":
        if _argument(node, 6, "transposed", False):
            return None
        groups = _argument(node, 8, "groups", 1)
    else:
        groups = _argument(node, 6, "groups", 1)
    kernel, stride, dilation = np.array(weight[2:]), _triple(stride), _triple(dilation)
    if padding == "same":
        total = dilation * (kernel - 1)
        before, after = total // 2, total - total // 2
    else:
        before = after = _triple(0 if padding == "valid" else padding)

    def apply(context: Context, x: Tensor) -> Tensor:
        w, b = context.argument(node.args[1]), context.argument(bias)
        return convolve(x, w, b, stride.tolist(), [0, 0, 0], dilation.tolist(), groups)

    window = Window(kernel, stride, dilation, before, after, 0.0, *_grids(source, node))
    whole = convolve if node.target is torch.ops.aten.conv3d.default else None
    return Windowed(node, source, window, apply, float(np.prod(weight)), whole)


def _pooling(node: fx.Node, source: fx.Node) -> Operation | None:
    """Max and average pooling; one that leaves a single position is a global pool."""
    kernel = _triple(node.args[1])
    stride = _argument(node, 2, "stride", [])
    stride = _triple(stride) if stride != [] else kernel
    before = _triple(_argument(node, 3, "padding", 0))
    inputs, outputs = _grids(source, node)
    maximum = _called(node) == "max_pool3d"
    divisor = None if maximum else _argument(node, 6, "divisor_override", None)
    everything = (kernel == inputs).all() and (outputs == 1).all() and not before.any()
    if everything and divisor is None:
        return GlobalPool(node, source, "max" if maximum else "mean")
    if maximum:
        dilation, fill = _triple(_argument(node, 4, "dilation", 1)), -float("inf")
        ceil = _argument(node, 5, "ceil_mode", False)
    else:
        dilation, fill = np.ones(3, np.int64), 0.0
        ceil = _argument(node, 4, "ceil_mode", False)
        if before.any() and not _argument(node, 5, "count_include_pad", True):
            return None
    # with ceil_mode the last window may hang over the edge
    over = (outputs - 1) * stride + dilation * (kernel - 1) + 1 - inputs - before
    after = np.maximum(before, over) if ceil else before
    if (after > before).any() and not maximum:
        return None

    def apply(context: Context, x: Tensor) -> Tensor:
        size, step = kernel.tolist(), stride.tolist()
        if maximum:
            return torch.nn.functional.max_pool3d(x, size, step, 0, dilation.tolist())
        return torch.nn.functional.avg_pool3d(x, size, step, 0, divisor_override=divisor)

    window = Window(kernel, stride, dilation, before, after, fill, inputs, outputs)
    return Windowed(node, source, window, apply, 0.0)


def _padding(node: fx.Node, source: fx.Node) -> Windowed | None:
    """Padding with a constant, on the three spatial axes only."""
    given: Any = node.args[1]
    widths = [int(w) for w in given]
    mode = _argument(node, 2, "mode", "constant")
    value = _argument(node, 3, "value", None)
    if _called(node) == "constant_pad_nd":
        mode, value = "constant", _argument(node, 2, "value", 0.0)
    if mode != "constant" or min(widths) < 0 or any(widths[6:]):
        return None
    widths = [*widths[:6], *[0] * (6 - len(widths[:6]))]
    before, after = np.array(widths[4::-2]), np.array(widths[5::-2])
    one = np.ones(3, np.int64)
    window = Window(one, one, one, before, after, float(value or 0.0), *_grids(source, node))
    return Windowed(node, source, window, lambda context, x: x, 0.0)


def _whole_work(node: fx.Node) -> float:
    """Multiply-adds of a node on whole maps, for one input."""
    called = _called(node)
    shape = shape_of(node)[1:]
    if not shape or not all(isinstance(n, int) for n in shape):
        return 0.0
    positions = float(np.prod([int(n) for n in shape]))
    if called in ("conv3d", "convolution"):
        return positions * float(np.prod(shape_of(node.args[1])[1:]))
    if called == "linear":
        return positions * float(shape_of(node.args[1])[1])
    if called in ("matmul", "bmm", "mm"):
        return positions * float(shape_of(node.args[0])[-1])
    if called == "scaled_dot_product_attention":
        return 2 * positions * float(shape_of(node.args[1])[-2])
    return 0.0


def _mark_last_uses(program: Program) -> None:
    last: dict[fx.Node, Operation] = {}
    for operation in program.operations:
        for node in operation.node.all_input_nodes:
            last[node] = operation
    for operation in program.operations:
        sources = operation.sources
        operation.last_use = (
            len(sources) == 1
            and last[sources[0]] is operation
            and sources[0] is not program.output
            and sources[0] is not program.trace.input
        )


def _grids(source: fx.Node, node: fx.Node) -> tuple[np.ndarray, np.ndarray]:
    before, after = (np.array([int(n) for n in shape_of(one)[2:]]) for one in (source, node))
    return before, after


def _argument(node: fx.Node, place: int, name: str, default: Any) -> Any:
    if len(node.args) > place:
        return node.args[place]
    return node.kwargs.get(name, default)


def _called(node: fx.Node) -> str:
    """Name of the ATen operation, without its overload."""
    name = getattr(getattr(node.target, "overloadpacket", None), "__name__", "")
    return str(name)


def _triple(value: Any) -> np.ndarray:
    values = [value] if isinstance(value, int) else list(value)
    return np.array(values * 3 if len(values) == 1 else values, dtype=np.int64)
