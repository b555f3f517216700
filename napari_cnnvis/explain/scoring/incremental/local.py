"""Which operations see each position by itself, in whatever form the maps are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, fx

from napari_cnnvis.explain.scoring.incremental.forms import CHANNELS, Form
from napari_cnnvis.explain.scoring.incremental.trace import argument_of, called, shape_of

__all__ = ["RESHAPES", "local_form", "makes_uniform"]

_ENTRYWISE = {
    "relu", "relu6", "leaky_relu", "prelu", "elu", "celu", "selu", "gelu", "silu", "mish",
    "sigmoid", "log_sigmoid", "tanh", "softplus", "hardtanh", "hardswish", "hardsigmoid",
    "threshold", "clamp", "clamp_min", "clamp_max", "abs", "neg", "exp", "log", "log1p", "expm1",
    "sqrt", "rsqrt", "square", "pow", "reciprocal", "add", "sub", "rsub", "mul", "div", "maximum",
    "minimum", "where", "addcmul", "addcdiv", "sin", "cos", "erf", "sign", "softsign", "softshrink",
    "hardshrink", "tanhshrink", "lerp", "gt", "lt", "ge", "le", "eq", "ne",
}  # fmt: skip
_JOINS = {"cat", "concat", "concatenate"}
_OVER_CHANNELS = {"mean", "sum", "amax", "amin", "var", "std", "linalg_vector_norm", "logsumexp"}
#: that only write the same numbers down in another shape
RESHAPES = {"view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze"}
_UNIFORM = {
    "zeros", "ones", "full", "new_zeros", "new_ones", "new_full", "zeros_like", "ones_like",
    "full_like",
}  # fmt: skip


def makes_uniform(node: fx.Node) -> bool:
    """Whether a node gives the same number everywhere, whatever the scan."""
    return called(node) in _UNIFORM


def local_form(
    node: fx.Node,
    sources: Mapping[fx.Node, Form],
    constants: Mapping[fx.Node, Any],
    uniform: set[fx.Node],
) -> Form | None:
    """The form of what a node gives if each position depends on the same position alone.

    Parameters
    ----------
    node : fx.Node
    sources : dict of fx.Node to Form
        Its inputs that are maps.
    constants : dict of fx.Node
        Weights, and what is computed from them.
    uniform : set of fx.Node
        See `makes_uniform`; they may be joined to a map's channels.
    """
    name: str = called(node)
    first: Any = node.args[0] if node.args else None
    others = [n for n in node.all_input_nodes if n not in sources]
    if name in RESHAPES and len(sources) == 1 and first in sources:
        # their other arguments are lengths, which may be those of the batch
        return sources[first].viewed(shape_of(first), shape_of(node))
    forms = set(sources.values())
    if len(forms) != 1:
        return None
    (form,) = forms
    if name in _JOINS:
        dim = argument_of(node, 1, "dim", 0) % len(shape_of(node))
        joins_channels = dim > 0 and form.axes[dim - 1] == CHANNELS
        if not joins_channels or any(n not in uniform for n in others):
            return None
        return form if _same_grid(node, form, sources) else None
    if any(n not in constants for n in others):
        return None
    if name.endswith("_like") and name in _UNIFORM:
        return form
    if name in _ENTRYWISE:
        ndim = len(shape_of(node))
        if any(_varies(constants[n], form, ndim) for n in others if name != "prelu"):
            return None
        if ndim != 1 + len(form.axes) or any(len(shape_of(s)) != ndim for s in sources):
            return None
        if name == "prelu" and form.axes[0] != CHANNELS:
            return None
        return form if _same_grid(node, form, sources) else None
    if len(sources) != 1 or first not in sources:
        return None
    before = shape_of(first)
    if name in ("permute", "transpose", "swapaxes", "movedim"):
        return _reordered(node, name, form, len(before))
    if name in ("slice", "select"):
        dim = argument_of(node, 1, "dim", 0) % len(before)
        return form.without([dim], name == "slice")
    if name in ("pad", "constant_pad_nd"):
        return form if _pads_channels_only(node, name, form) else None
    if name in ("softmax", "log_softmax", "_softmax", "_log_softmax", "cumsum"):
        return form.without([argument_of(node, 1, "dim", -1)], True)
    if name in _OVER_CHANNELS:
        where = 2 if name in ("linalg_vector_norm",) else 1
        dims = argument_of(node, where, "dim", None)
        if dims is None or dims == []:
            return None
        kept = len(shape_of(node)) == len(before)
        return form.without(dims if isinstance(dims, list | tuple) else [dims], kept)
    if name == "linear":
        return form if form.axes[-1] == CHANNELS else None
    if name in ("layer_norm", "rms_norm"):
        n = len(argument_of(node, 1, "normalized_shape", []))
        return form if all(axis == CHANNELS for axis in form.axes[-n:]) else None
    return None


def _varies(constant: Any, form: Form, ndim: int) -> bool:
    """Whether a constant, broadcast against a map, is not the same at all positions."""
    if not isinstance(constant, Tensor) or constant.ndim == 0:
        return False
    lengths = [1] * (ndim - constant.ndim) + list(constant.shape)
    return len(lengths) != ndim or any(lengths[dim] != 1 for dim in form.space)


def _same_grid(node: fx.Node, form: Form, sources: Mapping[fx.Node, Form]) -> bool:
    grid = form.grid(shape_of(node))
    return all(form.grid(shape_of(source)) == grid for source in sources)


def _reordered(node: Any, name: str, form: Form, ndim: int) -> Form | None:
    order = list(range(ndim))
    if name == "permute":
        order = [d % ndim for d in argument_of(node, 1, "dims", ())]
    elif name in ("transpose", "swapaxes"):
        a, b = (int(str(node.args[i])) % ndim for i in (1, 2))
        order[a], order[b] = b, a
    elif name == "movedim":  # of an array whose lengths say which axis is which
        lengths = np.broadcast_to(0, range(1, ndim + 1))
        order = [n - 1 for n in np.moveaxis(lengths, *node.args[1:3]).shape]
    else:
        return None
    return form.permuted(order)


def _pads_channels_only(node: fx.Node, name: str, form: Form) -> bool:
    if name == "pad" and argument_of(node, 2, "mode", "constant") != "constant":
        return False
    widths = [int(w) for w in argument_of(node, 1, "pad", ())]
    ndim = 1 + len(form.axes)
    padded = {ndim - 1 - i // 2 for i, w in enumerate(widths) if w}
    return all(dim > 0 and form.axes[dim - 1] == CHANNELS for dim in padded)
