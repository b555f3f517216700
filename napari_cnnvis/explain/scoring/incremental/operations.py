"""The operations of a traced network, each of which carries changed boxes to its output."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from napari_cnnvis.explain.scoring.incremental.forms import PLAIN_FORM, Form
from napari_cnnvis.explain.scoring.incremental.geometry import Window, common
from napari_cnnvis.explain.scoring.incremental.patches import (
    Kept,
    Patch,
    box_slices,
    paste,
    pool_all,
)
from napari_cnnvis.explain.scoring.incremental.trace import shape_of

__all__ = [
    "BatchNorm",
    "BatchSize",
    "Box",
    "Context",
    "GlobalPool",
    "Operation",
    "Pointwise",
    "Whole",
    "Windowed",
    "is_size",
]

#: a box on each of n regions' grids: first position, and one past the last, each (n, 3)
Box = tuple[np.ndarray, np.ndarray]
#: a gathered input larger than this is worked through in slabs, of at least so many windows
_SLAB = 32e6
_THINNEST = 4
_SPACE = (2, 3, 4)
_IN_PLACE: dict[Any, Any] = {
    torch.ops.aten.relu.default: torch.ops.aten.relu_.default,
    torch.ops.aten.silu.default: torch.ops.aten.silu_.default,
    torch.ops.aten.sigmoid.default: torch.ops.aten.sigmoid_.default,
}


@dataclass(eq=False)
class Context:
    """What operations read while they run.

    Attributes
    ----------
    constants : dict of fx.Node
        Weights, and what depends on nothing else.
    kept : dict of (fx.Node, fill)
        Clean outputs.
    values : dict of fx.Node
        Results of the batch so far: patches, or tensors and numbers of the whole batch.
    """

    constants: dict[fx.Node, Any]
    kept: dict[tuple[fx.Node, float | None], Kept]
    values: dict[fx.Node, Any]

    def argument(self, value: Any, replaced: dict[fx.Node, Any] | None = None) -> Any:
        """An argument of a node, with nodes inside it replaced by what they gave."""

        def look_up(node: fx.Node) -> Any:
            for place in (replaced or {}, self.constants, self.values):
                if node in place:
                    return place[node]
            raise KeyError(node)

        return fx.node.map_arg(value, look_up)

    def is_alone(self, node: fx.Node) -> bool:
        """Whether nothing else that is still needed lies in the memory of a node's patch.

        A slice, a chunk or a reshaped map may be a view of it that outlives it.
        """
        memory = self.values[node].values.untyped_storage().data_ptr()
        return all(
            tensor.untyped_storage().data_ptr() != memory
            for other, value in self.values.items()
            if other is not node
            for tensor in _tensors(value)
        )

    def call(self, node: fx.Node, replaced: dict[fx.Node, Any], target: Any = None) -> Any:
        """Run a node's function (or another `target`) with its own arguments, save `replaced`."""
        arguments = self.argument(node.args, replaced)
        function: Any = target or node.target
        return function(*arguments, **self.argument(node.kwargs, replaced))


@dataclass(eq=False)
class Operation(ABC):
    """One step of the network.

    Attributes
    ----------
    node : fx.Node
        What is called, with what; names the result.
    forms : dict of fx.Node to Form
        Inputs that are known as patches, and what their axes are.
    form : Form
        What the axes of the result are, if it is a patch.
    work : float
        Multiply-adds for each output position (of a box) or for a whole pass.
    """

    node: fx.Node
    forms: dict[fx.Node, Form]
    form: Form = PLAIN_FORM
    work: float = 0.0
    #: whether the only source is needed by no later operation
    last_use: bool = field(default=False, init=False)

    @property
    def sources(self) -> tuple[fx.Node, ...]:
        """Inputs that are known as patches."""
        return tuple(self.forms)

    @property
    def grid(self) -> np.ndarray:
        """Positions of the output along each axis, shape (3,)."""
        return np.array(self.form.grid(shape_of(self.node)))

    @property
    def channels(self) -> int:
        """Channels of the output."""
        return self.form.n_channels(shape_of(self.node))

    def native(self, source: fx.Node, values: Tensor) -> Tensor:
        """Values (n, channels, i, j, k) of a source as the node wants them."""
        return self.forms[source].native(values, shape_of(source))

    def keeps(self) -> list[tuple[fx.Node, np.ndarray, np.ndarray, float | None]]:
        """Clean outputs that it reads: node, margins before and after, what fills them."""
        return []

    def box(self, boxes: Sequence[Box]) -> Box | None:
        """Output box for boxes of the sources; None if it gives no patch."""
        return None

    @abstractmethod
    def run(self, context: Context) -> Any:
        """The result for a batch: a `Patch`, or whatever the node gives for whole maps."""


class Windowed(Operation):
    """A convolution, pooling or padding: each position sees a window of the input."""

    def __init__(
        self,
        node: fx.Node,
        source: fx.Node,
        window: Window,
        apply: Callable[[Context, Tensor], Tensor],
        work: float,
        whole: Callable[..., Tensor] | None = None,
    ) -> None:
        super().__init__(node, {source: PLAIN_FORM}, work=work)
        self.window = window
        self._apply = apply
        self._whole = whole

    def keeps(self) -> list[tuple[fx.Node, np.ndarray, np.ndarray, float | None]]:
        if self.window.one_voxel:
            return []
        fill = self.window.fill if self.window.before.any() or self.window.after.any() else None
        return [(self.sources[0], *self.window.margin, fill)]

    def box(self, boxes: Sequence[Box]) -> Box:
        return self.window.touched(*boxes[0])

    def run(self, context: Context) -> Patch:
        source = self.sources[0]
        patch, window = context.values[source], self.window
        if window.one_voxel or patch.covers(window.inputs):
            values = context.call(self.node, {source: patch.values}, self._whole)
            everything = np.broadcast_to(self.grid, patch.low.shape)
            return Patch(values, patch.low, patch.high if window.one_voxel else everything)
        first, high = window.touched(patch.low, patch.high)
        low, size = common(first, high, window.outputs)
        kept = context.kept[source, self.keeps()[0][3]]

        def layers(first: int, count: int) -> Tensor:
            """The output's layers ``first .. first + count`` along the box's first axis."""
            start, length = window.needed(
                low + np.array([first, 0, 0]), np.array([count, *size[1:]])
            )
            around = kept.gather(start, length)
            paste(around, patch.values, patch.low - start)
            return self._apply(context, around)

        count = self._layers_at_once(patch, size)
        if count >= size[0]:
            return Patch(layers(0, int(size[0])), low, high)
        parts = [layers(z, min(count, int(size[0]) - z)) for z in range(0, int(size[0]), count)]
        return Patch(torch.cat(parts, dim=2), low, high)

    def _layers_at_once(self, patch: Patch, size: np.ndarray) -> int:
        """On a CPU as many as keep the gathered input small: memory fresh from the system is slow."""
        if patch.values.device.type != "cpu":
            return int(size[0])
        _, length = self.window.needed(patch.low, np.array([1, *size[1:]]))
        n, channels = patch.values.shape[:2]
        layer = n * channels * float(length[1:].prod()) * patch.values.itemsize
        count = (_SLAB / layer - length[0]) / self.window.stride[0]
        return max(int(count), int(_THINNEST * self.window.reach[0]))


class Pointwise(Operation):
    """Each position sees the same position of one or more inputs."""

    def __init__(
        self,
        node: fx.Node,
        forms: dict[fx.Node, Form],
        form: Form = PLAIN_FORM,
        work: float = 0.0,
        reshapes: bool = False,
    ) -> None:
        super().__init__(node, forms, form, work)
        self._reshapes = reshapes

    def keeps(self) -> list[tuple[fx.Node, np.ndarray, np.ndarray, float | None]]:
        if len(self.sources) == 1:
            return []
        nothing = np.zeros(3, np.int64)
        return [(source, nothing, nothing, None) for source in self.sources]

    def box(self, boxes: Sequence[Box]) -> Box:
        low = np.minimum.reduce([b[0] for b in boxes])
        return low, np.maximum.reduce([b[1] for b in boxes])

    def run(self, context: Context) -> Patch:
        patches = [context.values[s] for s in self.sources]
        if len(patches) == 1:
            (source,), (patch,) = self.sources, patches
            if self._reshapes:  # of which only the shape is another
                return patch
            target = _IN_PLACE.get(self.node.target)
            if target is not None and not (self.last_use and context.is_alone(source)):
                target = None
            values = self._called(context, {source: patch.values}, target)
            return Patch(values, patch.low, patch.high)
        first, high = self.box([(p.low, p.high) for p in patches])
        low, size = common(first, high, self.grid)
        wide = {
            s: _widened(p, low, size, context, s)
            for s, p in zip(self.sources, patches, strict=True)
        }
        return Patch(self._called(context, wide), low, high)

    def _called(
        self, context: Context, values: dict[fx.Node, Tensor], target: Any = None
    ) -> Tensor:
        """The node's function on a box, (n, channels, i, j, k) in and out."""
        given = {source: self.native(source, of_source) for source, of_source in values.items()}
        box = next(iter(given.values()))
        for node in self.node.all_input_nodes:
            other = context.values.get(node)
            if node not in given and isinstance(other, Tensor) and other.ndim == box.ndim:
                for dim in self.form.space:  # the same everywhere: any box of it will do
                    other = other.narrow(dim, 0, box.shape[dim])
                given[node] = other
        return self.form.plain(context.call(self.node, given, target))


class BatchNorm(Pointwise):
    """Batch normalisation in evaluation mode: a factor and a shift for each channel.

    In place where nothing else needs the input; torch's own always writes a copy.
    """

    def __init__(self, node: fx.Node, source: fx.Node, constants: dict[fx.Node, Any]) -> None:
        super().__init__(node, {source: PLAIN_FORM})
        context = Context(constants, {}, {})
        _, weight, bias, mean, var, _, _, eps, *_ = (
            context.argument(a, {source: None}) for a in node.args
        )
        factor = (var.double() + eps).rsqrt()
        if weight is not None:
            factor = factor * weight
        shift = -mean.double() * factor
        if bias is not None:
            shift = shift + bias
        shape = (1, -1, 1, 1, 1)
        self._factor, self._shift = factor.to(mean).view(shape), shift.to(mean).view(shape)

    def run(self, context: Context) -> Patch:
        source = self.sources[0]
        patch = context.values[source]
        x = patch.values
        factor, shift = self._factor.to(x.dtype), self._shift.to(x.dtype)
        in_place = self.last_use and context.is_alone(source)
        values = torch.addcmul(shift, x, factor, out=x if in_place else None)
        return Patch(values, patch.low, patch.high)


class GlobalPool(Operation):
    """Mean or maximum over all positions, from the clean one and what changed."""

    def __init__(self, node: fx.Node, source: fx.Node, form: Form, how: str) -> None:
        super().__init__(node, {source: form})
        self._how = how

    def keeps(self) -> list[tuple[fx.Node, np.ndarray, np.ndarray, float | None]]:
        nothing = np.zeros(3, np.int64)
        return [(self.sources[0], nothing, nothing, None)]

    def run(self, context: Context) -> Tensor:
        source = self.sources[0]
        patch, clean = context.values[source], context.kept[source, None]
        shape = (len(patch.values), *(int(n) for n in shape_of(self.node)[1:]))
        if patch.covers(np.array(self.forms[source].grid(shape_of(source)))):
            return pool_all(patch.values, self._how).view(shape)
        before = clean.gather(patch.low, patch.size)
        pooled = clean.pooled(self._how)
        if self._how == "mean":
            change = before.neg_().add_(patch.values).sum((2, 3, 4))
            return (pooled + change / clean.volume[0, 0].numel()).view(shape)
        outside = pooled.expand(len(before), -1).clone()
        rows, channels = torch.nonzero(before.amax(_SPACE) >= outside, as_tuple=True)
        for row, channel in zip(rows.tolist(), channels.tolist(), strict=True):
            # the clean maximum lies inside the box: look for the largest outside it
            rest = clean.volume[0, channel].clone()
            rest[box_slices(patch.low[row], patch.size)] = -torch.inf
            outside[row, channel] = rest.max()
        return torch.maximum(outside, patch.values.amax(_SPACE)).view(shape)


class BatchSize(Operation):
    """The number of regions in the batch."""

    def run(self, context: Context) -> int:
        return len(context.values[self.sources[0]].values)


class Whole(Operation):
    """Anything else: computed on whole maps, the patches put into copies of the clean output.

    ``mixes`` says that each position of the result depends on all of the maps.
    """

    def __init__(
        self, node: fx.Node, forms: dict[fx.Node, Form], work: float = 0.0, mixes: bool = False
    ) -> None:
        super().__init__(node, forms, work=work)
        self.mixes = mixes

    def keeps(self) -> list[tuple[fx.Node, np.ndarray, np.ndarray, float | None]]:
        nothing = np.zeros(3, np.int64)
        return [(source, nothing, nothing, None) for source in self.sources]

    def run(self, context: Context) -> Any:
        replaced = {}
        for source in self.sources:
            patch = context.values[source]
            grid = np.array(self.forms[source].grid(shape_of(source)))
            low = np.zeros_like(patch.low)
            replaced[source] = self.native(source, _widened(patch, low, grid, context, source))
        return context.call(self.node, replaced)


def _tensors(value: Any) -> Iterator[Tensor]:
    """What of a result lies in memory."""
    if isinstance(value, Patch):
        yield value.values
    elif isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)


def is_size(node: fx.Node) -> bool:
    """Whether a node asks for the length of an axis, or reckons with such lengths."""
    return node.target is torch.ops.aten.sym_size.int or (
        getattr(node.target, "__module__", "") == operator.__name__
        and node.target is not operator.getitem
    )


def _widened(
    patch: Patch, low: np.ndarray, size: np.ndarray, context: Context, source: fx.Node
) -> Tensor:
    """Values of a patch in a larger box."""
    if patch.covers(size) and (patch.low == low).all():
        return patch.values
    around = context.kept[source, None].gather(low, size)
    paste(around, patch.values, patch.low - low)
    return around
