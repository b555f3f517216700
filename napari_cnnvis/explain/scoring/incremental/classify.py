"""Which operations carry a changed box along, and which need the whole map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from napari_cnnvis.explain.scoring.incremental.forms import PLAIN_FORM, Form
from napari_cnnvis.explain.scoring.incremental.geometry import Window
from napari_cnnvis.explain.scoring.incremental.local import RESHAPES, local_form, makes_uniform
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
from napari_cnnvis.explain.scoring.incremental.trace import (
    CannotTrace,
    Trace,
    argument_of,
    called,
    shape_of,
)

__all__ = ["Program", "classify"]

#: of which each position of the result depends on all of the maps
_MIXING = {
    "group_norm", "instance_norm", "adaptive_avg_pool3d", "adaptive_max_pool3d", "mean", "sum", "amax", "amin",
    "var", "std", "softmax", "roll", "flip", "sort", "topk", "cumsum", "median",
}  # fmt: skip
_ATTENTION = {"matmul", "bmm", "baddbmm", "einsum", "scaled_dot_product_attention"}
_SAME = {"clone", "alias", "detach", "contiguous", "lift_fresh_copy"}
_CASTS = {"to", "type_as", "_to_copy"}


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
    forms : dict of fx.Node to Form
        What the axes of those are that are followed as boxes.
    """

    operations: tuple[Operation, ...]
    constants: dict[fx.Node, Any]
    same: dict[fx.Node, fx.Node]
    trace: Trace
    forms: dict[fx.Node, Form]

    @property
    def output(self) -> fx.Node:
        """Gives the logits."""
        return self.same.get(self.trace.output, self.trace.output)

    def mixing(self) -> Whole | None:
        """The first operation that needs whole maps though multiply-adds are yet to come.

        One that mixes positions is named rather than one that is only not followed.
        """
        ahead = 0.0
        found: Whole | None = None
        mixes: Whole | None = None
        for operation in reversed(self.operations):
            if isinstance(operation, Whole):
                ahead += operation.work
                if ahead > 0.05 * self.work:
                    found = operation if operation.sources else found
                    mixes = operation if operation.mixes else mixes
        return mixes or found

    @property
    def work(self) -> float:
        """Multiply-adds of a full pass."""
        boxed = (Windowed, Pointwise)
        return sum(
            op.work * (float(op.grid.prod()) if isinstance(op, boxed) else 1)
            for op in self.operations
            if op.work
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
    forms: dict[fx.Node, Form] = {trace.input: PLAIN_FORM}
    varying: set[fx.Node] = {trace.input}
    uniform: set[fx.Node] = set()
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
        if makes_uniform(node):
            uniform.add(node)
        sources = {n: forms[n] for n in inputs if n in forms}
        operation = _operation(node, sources, constants, uniform)
        operations.append(operation)
        if isinstance(operation, Windowed | Pointwise):
            forms[node] = operation.form
    program = Program(tuple(operations), constants, same, trace, forms)
    _mark_last_uses(program)
    return program


def _operation(
    node: fx.Node,
    sources: dict[fx.Node, Form],
    constants: dict[fx.Node, Any],
    uniform: set[fx.Node],
) -> Operation:
    if len(sources) == 1 and called(node) == "sym_size":
        return BatchSize(node, sources)
    name = called(node)
    varying = [n for n in node.all_input_nodes if not (n in sources or n in constants)]
    mixes = bool(sources) and (name in _MIXING or any(shape_of(n)[1:] for n in varying))
    mixes |= name in _ATTENTION
    whole = Whole(node, sources, _whole_work(node), mixes)
    if not sources or is_size(node) or not isinstance(node.meta.get("val"), Tensor):
        return whole
    if len(sources) == 1 and node.args[0] in sources and not varying:
        special = _of_one_map(node, next(iter(sources)), next(iter(sources.values())), constants)
        if special is not None:
            return special
    form = local_form(node, sources, constants, uniform)
    if form is None:
        return whole
    return Pointwise(node, sources, form, _work_of_position(node, form), name in RESHAPES)


def _of_one_map(
    node: fx.Node, source: fx.Node, form: Form, constants: dict[fx.Node, Any]
) -> Operation | None:
    """Convolutions, pools and the like, whose only map is their first argument."""
    name = called(node)
    pooled = _pools_everything(node, name, form)
    if pooled:
        return GlobalPool(node, source, form, pooled)
    if form != PLAIN_FORM:
        return None
    if name in ("conv3d", "convolution"):
        return _convolution(node, source)
    if name in ("max_pool3d", "avg_pool3d"):
        return _pooling(node, source)
    if name == "slice" and argument_of(node, 1, "dim", 0) % 5 > 1:
        return _slice(node, source)
    if name in ("pad", "constant_pad_nd"):
        return _padding(node, source)
    if name == "batch_norm" and not argument_of(node, 5, "training", False):
        return BatchNorm(node, source, constants)
    return None


def _work_of_position(node: fx.Node, form: Form) -> float:
    """Multiply-adds for each position of a linear layer on channels that come last."""
    if called(node) != "linear":
        return 0.0
    return float(form.n_channels(shape_of(node)) * int(shape_of(node.args[1])[1]))


def _hands_on(node: fx.Node) -> bool:
    name = called(node)
    if name == "slice":  # of everything
        return (
            str(shape_of(node)) == str(shape_of(node.args[0]))
            and argument_of(node, 4, "step", 1) == 1
        )
    return name in _SAME or (name in _CASTS and _same_type(node))


def _same_type(node: fx.Node) -> bool:
    """Whether a node gives numbers of the type of its first input, on the same device."""
    before, after = node.all_input_nodes[0].meta.get("val"), node.meta.get("val")
    if not (isinstance(before, Tensor) and isinstance(after, Tensor)):
        return False
    return (before.dtype, before.device) == (after.dtype, after.device)


def _pools_everything(node: fx.Node, name: str, form: Form) -> str | None:
    """ "mean" or "max" if a node pools over all positions of its maps."""
    ndim = 1 + len(form.axes)
    if name == "adaptive_avg_pool3d" and all(n == 1 for n in _triple(node.args[1])):
        return "mean" if form == PLAIN_FORM else None
    if name in ("mean", "amax") and len(node.args) > 1 and _same_type(node):
        given: Any = node.args[1]
        axes = given if isinstance(given, list | tuple) else [given]
        if {a % ndim for a in axes} == set(form.space):
            return "mean" if name == "mean" else "max"
    return None


def _convolution(node: fx.Node, source: fx.Node) -> Windowed | None:
    weight = shape_of(node.args[1])
    if len(weight) != 5:
        return None
    bias = argument_of(node, 2, "bias", None)
    stride, padding, dilation = (
        argument_of(node, place, name, default)
        for place, name, default in ((3, "stride", 1), (4, "padding", 0), (5, "dilation", 1))
    )
    if called(node) == "convolution":
        if argument_of(node, 6, "transposed", False):
            return None
        groups = argument_of(node, 8, "groups", 1)
    else:
        groups = argument_of(node, 6, "groups", 1)
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
    stride = argument_of(node, 2, "stride", [])
    stride = _triple(stride) if stride != [] else kernel
    before = _triple(argument_of(node, 3, "padding", 0))
    inputs, outputs = _grids(source, node)
    maximum = called(node) == "max_pool3d"
    divisor = None if maximum else argument_of(node, 6, "divisor_override", None)
    everything = (kernel == inputs).all() and (outputs == 1).all() and not before.any()
    if everything and divisor is None:
        return GlobalPool(node, source, PLAIN_FORM, "max" if maximum else "mean")
    if maximum:
        dilation, fill = _triple(argument_of(node, 4, "dilation", 1)), -float("inf")
        ceil = argument_of(node, 5, "ceil_mode", False)
    else:
        dilation, fill = np.ones(3, np.int64), 0.0
        ceil = argument_of(node, 4, "ceil_mode", False)
        if before.any() and not argument_of(node, 5, "count_include_pad", True):
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


def _slice(node: fx.Node, source: fx.Node) -> Windowed | None:
    """Every so many positions along one axis of space, from a start on."""
    axis = argument_of(node, 1, "dim", 0) % 5 - 2
    inputs, outputs = _grids(source, node)
    start = argument_of(node, 2, "start", None) or 0
    step = argument_of(node, 4, "step", 1)
    if not isinstance(start, int) or not isinstance(step, int):
        return None
    start = max(start + int(inputs[axis]), 0) if start < 0 else start
    one, nothing = np.ones(3, np.int64), np.zeros(3, np.int64)
    stride, before = one.copy(), nothing.copy()
    stride[axis], before[axis] = step, -start
    window = Window(one, stride, one, before, nothing, 0.0, inputs, outputs)
    steps = tuple(slice(None, None, int(s)) for s in stride)

    def apply(context: Context, x: Tensor) -> Tensor:
        return x[(slice(None), slice(None), *steps)]

    return Windowed(node, source, window, apply, 0.0)


def _padding(node: fx.Node, source: fx.Node) -> Windowed | None:
    """Padding with a constant, on the three spatial axes only."""
    given: Any = node.args[1]
    widths = [int(w) for w in given]
    mode = argument_of(node, 2, "mode", "constant")
    value = argument_of(node, 3, "value", None)
    if called(node) == "constant_pad_nd":
        mode, value = "constant", argument_of(node, 2, "value", 0.0)
    if mode != "constant" or any(widths[6:]):
        return None
    widths = [*widths[:6], *[0] * (6 - len(widths[:6]))]
    before, after = np.array(widths[4::-2]), np.array(widths[5::-2])
    one = np.ones(3, np.int64)
    window = Window(one, one, one, before, after, float(value or 0.0), *_grids(source, node))
    return Windowed(node, source, window, lambda context, x: x, 0.0)


def _whole_work(node: fx.Node) -> float:
    """Multiply-adds of a node on whole maps, for one input."""
    name = called(node)
    shape = shape_of(node)[1:]
    if not shape or not all(isinstance(n, int) for n in shape):
        return 0.0
    positions = float(np.prod([int(n) for n in shape]))
    if name in ("conv3d", "convolution"):
        return positions * float(np.prod(shape_of(node.args[1])[1:]))
    if name == "linear":
        return positions * float(shape_of(node.args[1])[1])
    if name in ("matmul", "bmm", "mm"):
        return positions * float(shape_of(node.args[0])[-1])
    if name == "scaled_dot_product_attention":
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


def _triple(value: Any) -> np.ndarray:
    values = [value] if isinstance(value, int) else list(value)
    return np.array(values * 3 if len(values) == 1 else values, dtype=np.int64)
