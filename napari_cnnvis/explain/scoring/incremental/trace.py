"""A network as a list of tensor operations, whatever its Python code looks like."""

from __future__ import annotations

import contextlib
import operator
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from napari_cnnvis.errors import MethodError, shortened
from napari_cnnvis.models.execution import inspecting
from napari_cnnvis.models.gradient_flow import ThroughCuts
from napari_cnnvis.models.scores import Reading

__all__ = ["CannotTrace", "Trace", "argument_of", "called", "shape_of", "trace"]


class _Scores(nn.Module):
    """A network that gives its scores and nothing else, and leaves its input as it is."""

    def __init__(self, net: nn.Module, reading: Reading) -> None:
        super().__init__()
        self.net, self.reading = net, reading

    def forward(self, x: Tensor) -> Tensor:
        return self.reading.traced(self.net, x.clone())


class CannotTrace(Exception):
    """A network that cannot be written as a fixed list of operations; the text says why."""


@dataclass(frozen=True, eq=False)
class Trace:
    """The operations of a network in the order in which they run.

    Attributes
    ----------
    nodes : tuple of fx.Node
        ATen operations for inputs of any batch size.
    input, output : fx.Node
        The image, and the logits.
    constants : dict of fx.Node to Tensor
        Weights and buffers, not copied.
    """

    nodes: tuple[fx.Node, ...]
    input: fx.Node
    output: fx.Node
    constants: dict[fx.Node, Tensor]


def trace(module: nn.Module, example: Tensor, reading: Reading) -> Trace:
    """Trace a classifier with ``torch.export``.

    Parameters
    ----------
    module : nn.Module
        Maps (n, channels, i, j, k) to logits (n, n_classes); left as it is.
    example : Tensor, shape (1, channels, i, j, k)
        An input; only its shape, type and device count.
    reading : Reading
        How the network is run to its scores.

    Raises
    ------
    CannotTrace
        If what the network does depends on the values of its input, or it calls
        what ``torch.export`` does not know.
    """
    two = torch.empty((2, *example.shape[1:]), dtype=example.dtype, device=example.device)
    program = _exported(module, reading, two, strict=False)
    if _has_fixed_batch(program):  # as by len(x), which torch follows only when it reads the code
        with contextlib.suppress(CannotTrace):
            program = _exported(module, reading, two, strict=True)
    signature = program.graph_signature
    if len(signature.user_inputs) != 1 or len(signature.user_outputs) != 1:
        raise CannotTrace("it has more than one input or output")
    if signature.buffers_to_mutate:
        raise CannotTrace("it changes its own buffers while it runs")
    inputs, constants = [], {}
    for node in program.graph.nodes:
        if node.op != "placeholder":
            continue
        if node.name in signature.inputs_to_parameters:
            constants[node] = program.state_dict[signature.inputs_to_parameters[node.name]]
        elif node.name in signature.inputs_to_buffers:
            name = signature.inputs_to_buffers[node.name]
            held = program.state_dict if name in program.state_dict else program.constants
            constants[node] = held[name]
        elif node.name in signature.inputs_to_lifted_tensor_constants:
            name = signature.inputs_to_lifted_tensor_constants[node.name]
            constants[node] = program.constants[name]
        else:
            inputs.append(node)
    if len(inputs) != 1 or _fixed(shape_of(inputs[0])[0]):
        raise CannotTrace("it works for one fixed batch size only")
    views = (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default)
    for node in program.graph.nodes:
        if node.target in views:  # patches may lie otherwise in memory
            node.target = torch.ops.aten.reshape.default
    checks = torch.ops.aten._assert_tensor_metadata.default
    calls = tuple(
        n for n in program.graph.nodes if n.op == "call_function" and n.target is not checks
    )
    output = next(n for n in program.graph.nodes if n.op == "output").args[0][0]
    if str(shape_of(output)[0]) != str(shape_of(inputs[0])[0]):
        raise CannotTrace("it does not give one row of scores for each scan")
    return Trace(calls, inputs[0], output, constants)


def _exported(module: nn.Module, reading: Reading, example: Tensor, strict: bool) -> Any:
    """The program that ``torch.export`` makes, in a few plain operations."""
    from torch.export import Dim, export  # slow to import

    try:
        with warnings.catch_warnings(), inspecting(module), torch.no_grad(), ThroughCuts():
            warnings.simplefilter("ignore")  # torch.export warns about its own code
            program = export(
                _Scores(module, reading), (example,), dynamic_shapes=({0: Dim.AUTO},), strict=strict
            )
            _without_dropout(program.graph)
            if any(_writes(node) for node in program.graph.nodes):
                program = program.run_decompositions({})
            _without_casts(program.graph)
            _plain_batch_norms(program.graph)
            _slices_of_splits(program.graph)
            _maxima_alone(program.graph)
    except MethodError as exc:
        raise CannotTrace("it does not give one row of scores for each scan") from exc
    except Exception as exc:  # torch.export raises whatever the network's code raises
        raise CannotTrace(f"its code cannot be traced ({_first_sentence(exc)})") from exc
    return program


def _has_fixed_batch(program: Any) -> bool:
    given = set(program.graph_signature.user_inputs)
    return any(n.name in given and _fixed(shape_of(n)[0]) for n in program.graph.nodes)


def shape_of(node: Any) -> tuple[Any, ...]:
    """Shape of what a node gives, its first axis symbolic; () if it is not one tensor."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def argument_of(node: fx.Node, place: int, name: str, default: Any) -> Any:
    """An argument of a call, by position or name."""
    if len(node.args) > place:
        return node.args[place]
    return node.kwargs.get(name, default)


def called(node: fx.Node) -> str:
    """Name of the ATen operation, without its overload."""
    name = getattr(getattr(node.target, "overloadpacket", None), "__name__", "")
    return str(name)


def _fixed(length: Any) -> bool:
    """Whether an axis has one length only, also if it is written as a symbol."""
    return isinstance(length, int) or length.node.maybe_as_int() is not None


def _writes(node: fx.Node) -> bool:
    if node.op != "call_function" or node.target is operator.getitem:
        return False
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _without_dropout(graph: fx.Graph) -> None:
    """Take out dropout in evaluation mode, before steps in place are written as copies.

    It hands on its input itself, though torch declares the result to be a new tensor: what
    writes into the result writes into the input, too.
    """
    for node in list(graph.nodes):
        name = getattr(getattr(node.target, "_schema", None), "name", "")
        if name.endswith(("dropout", "dropout_")) and len(node.args) == 3 and not node.args[2]:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _without_casts(graph: fx.Graph) -> None:
    """Take out changes from one floating type to another: all is computed in one type."""
    for node in list(graph.nodes):
        if node.op != "call_function" or called(node) not in ("to", "_to_copy", "type_as"):
            continue
        before, after = node.args[0].meta.get("val"), node.meta.get("val")
        if before is not None and before.is_floating_point() and after.is_floating_point():
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _plain_batch_norms(graph: fx.Graph) -> None:
    """Write batch norms that give three results (after run_decompositions) as those that give one."""
    for node in list(graph.nodes):
        if node.target is not torch.ops.aten._native_batch_norm_legit_no_training.default:
            continue
        x, weight, bias, mean, var, momentum, eps = node.args
        with graph.inserting_after(node):
            plain = graph.call_function(
                torch.ops.aten.batch_norm.default,
                (x, weight, bias, mean, var, False, momentum, eps, False),
            )
        plain.meta["val"] = node.meta["val"][0]
        plain.meta["nn_module_stack"] = node.meta.get("nn_module_stack", {})
        for user in list(node.users):
            user.replace_all_uses_with(plain)
            graph.erase_node(user)
        graph.erase_node(node)


def _slices_of_splits(graph: fx.Graph) -> None:
    """Write the parts of ``split``, ``chunk`` and ``unbind`` as slices of what is split."""
    for node in list(graph.nodes):
        name = called(node) if node.op == "call_function" else ""
        if name not in ("split", "split_with_sizes", "chunk", "unbind"):
            continue
        dim = argument_of(node, 1 if name == "unbind" else 2, "dim", 0)
        parts = node.meta.get("val")
        if any(user.target is not operator.getitem for user in node.users) or parts is None:
            continue
        dim %= len(shape_of(node.args[0]))
        lengths = [1 if name == "unbind" else part.shape[dim] for part in parts]
        if dim == 0 or not all(isinstance(n, int) for n in lengths):
            continue
        for user in list(node.users):
            start = sum(lengths[: user.args[1]])
            with graph.inserting_before(user):
                if name == "unbind":
                    arguments: tuple[Any, ...] = (node.args[0], dim, start)
                    part = graph.call_function(torch.ops.aten.select.int, arguments)
                else:
                    arguments = (node.args[0], dim, start, start + lengths[user.args[1]])
                    part = graph.call_function(torch.ops.aten.slice.Tensor, arguments)
            part.meta = dict(user.meta)
            user.replace_all_uses_with(part)
            graph.erase_node(user)
        graph.erase_node(node)


def _maxima_alone(graph: fx.Graph) -> None:
    """Write ``max`` and ``min`` along an axis, of which only the values are used, as ``amax``."""
    plain = {"max": torch.ops.aten.amax.default, "min": torch.ops.aten.amin.default}
    for node in list(graph.nodes):
        name = called(node) if node.op == "call_function" else ""
        if name not in plain or len(node.args) < 2 or isinstance(node.args[1], fx.Node):
            continue
        for user in [u for u in node.users if u.args[1] == 1 and not u.users]:
            graph.erase_node(user)  # where they are, and nobody asks
        values = [u for u in node.users if u.args[1] == 0]
        if len(values) != len(node.users):
            continue
        for user in values:
            with graph.inserting_before(user):
                kept = argument_of(node, 2, "keepdim", False)
                alone = graph.call_function(plain[name], (node.args[0], [node.args[1]], kept))
            alone.meta = dict(user.meta)
            user.replace_all_uses_with(alone)
            graph.erase_node(user)
        graph.erase_node(node)


def _first_sentence(exc: BaseException) -> str:
    lines = [line for line in str(exc).splitlines() if line.strip()]
    sentence = lines[0].strip().split(". ")[0] if lines else type(exc).__name__
    return shortened(sentence, 160).rstrip(".")
