"""Programs: TorchScript files and ``torch.export`` programs (``.pt2``), as networks with layers.

Both hold a network as a list of tensor operations instead of Python code. They
become a module in which every layer that can be explained is a submodule with its
own name, so that hooks, Grad-CAM and the incremental engine work as on the original.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.formats.program_vetting import PLAIN_NAME, vetted_copy, vetted_script
from napari_cnnvis.models.probing import COMMON_SHAPES

__all__ = ["LayerOutput", "read_exported", "read_torchscript"]

_AGAIN = "Save it again with the torch version that is installed here, or save model.state_dict()."
#: shapes at which a TorchScript program is tried
_SHAPES = tuple(dict.fromkeys([(64, 64, 64), *COMMON_SHAPES]))
_ACTIVATIONS = (
    *("relu", "relu_", "leaky_relu", "leaky_relu_", "elu", "elu_", "gelu", "silu", "silu_", "mish"),
    *(
        "hardswish",
        "hardswish_",
        "hardtanh",
        "hardtanh_",
        "relu6",
        "prelu",
        "softplus",
        "selu",
        "celu",
    ),
    *("tanh", "sigmoid"),
)
_JOINS = ("add", "add_", "cat")
_DROPOUTS = ("dropout", "dropout_", "feature_dropout", "alpha_dropout", "native_dropout")
_BATCH_NORMS = ("batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_functional")
_CONVOLUTIONS = ("conv3d", "convolution", "conv_transpose3d")


class LayerOutput(nn.Module):
    """Hands a layer's output on; carries the layer's name and, where it has some, its weights."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def read_exported(path: Path) -> tuple[nn.Module, dict[str, Any], tuple[str, ...]]:
    """A ``.pt2`` file as a network, what is known of its input, and notes.

    Raises
    ------
    CheckpointError
        If it is damaged, of another torch version, holds code, or takes no 3D input.
    """
    copy = vetted_copy(path)
    try:
        with _quiet():
            program = torch.export.load(copy)
            module = _as_network(program, path)
        inputs = _inputs(program)
        shape = next(n.meta["val"].shape for n in program.graph.nodes if n.name in inputs)
    except CheckpointError:
        raise
    except Exception as exc:  # a damaged file can raise anything
        raise CheckpointError(
            f"{path} is not an exported program that torch {torch.__version__.split('+')[0]} can "
            f"read. {_AGAIN}"
        ) from exc
    header: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    if len(shape) == 5:
        sizes = [n if isinstance(n, int) else None for n in shape[1:]]
        header["input"] = {"channels": sizes[0] or 1}
        if all(sizes[1:]):
            header["input"]["shape"] = sizes[1:]
            notes = (f"exported for inputs of {' x '.join(map(str, sizes[1:]))} voxels only",)
    return module, header, notes


def read_torchscript(path: Path) -> tuple[nn.Module, tuple[str, ...]]:
    """A TorchScript file as a network, and notes.

    Where its code cannot be written as a list of operations the program is used as it
    is: it can be scored, but has no layers.

    Raises
    ------
    CheckpointError
        If it is damaged, reaches out of the network, or takes no 3D input.
    """
    copy = vetted_script(path)
    try:
        with _quiet():
            script = torch.jit.load(copy, map_location="cpu").eval()
    except Exception as exc:  # a damaged file can raise anything
        raise CheckpointError(
            f"{path} is not a complete TorchScript program, or of a newer torch version. {_AGAIN}"
        ) from exc
    channels = next((p.shape[1] for p in script.parameters() if p.ndim == 5), 1)
    shape = _shape_that_runs(script, copy, channels)
    if shape is None:
        raise CheckpointError(
            f"{path} does not run on a 3D scan with {channels} channel(s); choose a network for 3D "
            "volumes."
        )
    try:
        from torch._export.converter import TS2EPConverter

        if not all(PLAIN_NAME.fullmatch(name) for name in script.state_dict()):
            raise ValueError("names that could become code")
        with _quiet():
            program = TS2EPConverter(script, (torch.zeros((2, channels, *shape)),)).convert()
            module = _as_network(program, path)
            with torch.no_grad():
                module(torch.zeros((1, channels, *shape)))
    except Exception:  # whatever the converter does not know
        return script, ("its layers could not be read, so only sensitivity and boxes apply",)
    _restore_parameters(module, script)
    return module, ("the layers of a TorchScript program; those without weights are numbered",)


def _restore_parameters(module: nn.Module, script: nn.Module) -> None:
    """Make parameters again of what the conversion made buffers."""
    for name, parameter in script.named_parameters():
        owner, _, leaf = name.rpartition(".")
        try:
            part = module.get_submodule(owner)
        except AttributeError:
            continue
        if leaf in part._buffers or leaf in part._parameters:
            part._buffers.pop(leaf, None)
            part._parameters[leaf] = nn.Parameter(parameter.detach(), requires_grad=False)


def _shape_that_runs(
    script: nn.Module, file: io.BytesIO, channels: int
) -> tuple[int, int, int] | None:
    """The first of the common input shapes that a program takes; tried without values if possible."""
    file.seek(0)
    try:
        with _quiet():
            empty = torch.jit.load(file, map_location="meta").eval()
    except Exception:  # whatever has to have values
        empty = None
    for program, device in ((empty, "meta"), (script, "cpu")):
        needs_values = program is None
        for shape in () if program is None else _SHAPES:
            try:
                with torch.no_grad(), _quiet():
                    program(torch.zeros((2, channels, *shape), device=device))
            except Exception as exc:  # whatever the program raises
                needs_values = needs_values or "meta" in str(exc).lower()
                continue
            return shape
        if not needs_values:
            break
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings and log lines about its own formats."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _inputs(program: Any) -> tuple[str, ...]:
    return tuple(program.graph_signature.user_inputs)


def _as_network(program: Any, path: Path) -> nn.Module:
    """The program as a module whose layers can be hooked, in evaluation mode, for any batch."""
    if len(_inputs(program)) != 1:
        raise CheckpointError(
            f"{path} takes {len(_inputs(program))} inputs; a network of one scan is needed."
        )
    traced = program.module()
    graph = traced.graph
    names = _layer_names(graph)
    for node in list(graph.nodes):
        if node.op == "call_module" and node.target == "_guards_fn":
            graph.erase_node(node)  # the operations themselves say what does not fit
        elif node.op == "call_function":
            if _counts(node):
                graph.erase_node(node)
                continue
            _evaluate(node)
            _any_batch(node)
    for node, name in names.items():
        _name_output(traced, node, name)
    for node in [n for n in graph.nodes if _operation(n) == "linear"]:
        _name_linear(traced, node)
    graph.lint()
    return fx.GraphModule(traced, graph, class_name=_class_name(graph))


def _counts(node: fx.Node) -> bool:
    """Whether a node only changes a weight, as batch norm counts batches in training."""
    kept = node.args and isinstance(node.args[0], fx.Node) and node.args[0].op == "get_attr"
    return bool(kept) and not node.users and _operation(node) in ("add_", "copy_")


def _evaluate(node: fx.Node) -> None:
    """Switch dropout and batch norm to evaluation, whatever the mode it was exported in."""
    name = _operation(node)
    arguments = list(node.args)
    if name in _DROPOUTS and len(arguments) > 2:
        arguments[2] = False
    elif name in _BATCH_NORMS and len(arguments) > 5:
        arguments[5] = False
    node.args = tuple(arguments)


def _any_batch(node: fx.Node) -> None:
    """Write a view to a batch of exactly one as a view to any batch."""
    if _operation(node) not in ("view", "reshape", "_unsafe_view"):
        return
    node.target = torch.ops.aten.reshape.default  # maps may lie in memory in another way
    given: Any = node.args[1]
    source, shape = node.args[0], list(given)
    value = source.meta.get("val") if isinstance(source, fx.Node) else None
    if not shape or shape[0] != 1 or not isinstance(value, Tensor) or value.shape[0] != 1:
        return
    if -1 in shape[1:]:  # the rest is known from the result
        shape[1:] = [int(n) for n in node.meta["val"].shape[1:]]
    node.args = (source, [-1, *shape[1:]])


def _operation(node: fx.Node) -> str:
    if node.op != "call_function":
        return ""
    return getattr(node.target, "__name__", "").split(".")[0]


def _layer_names(graph: fx.Graph) -> dict[fx.Node, str]:
    """What the layers that can be explained are called: as in the original, where that is known."""
    maps = [n for n in graph.nodes if n.op == "call_function" and _is_map(n)]
    if any(len(_stack(node)) > 0 for node in maps):
        return _original_names(graph, maps)
    names: dict[fx.Node, str] = {}
    count: Counter[str] = Counter()
    for node in maps:
        name = _operation(node).rstrip("_")
        if (
            name in _CONVOLUTIONS
            and isinstance(node.args[1], fx.Node)
            and node.args[1].op == "get_attr"
        ):
            names[node] = str(node.args[1].target).rpartition(".")[0]
        elif name in _ACTIVATIONS or name in _JOINS:
            count[name] += 1
            names[node] = f"{name}_{count[name]}"
    return {node: name for node, name in names.items() if name}


def _original_names(graph: fx.Graph, maps: list[fx.Node]) -> dict[fx.Node, str]:
    last: dict[str, fx.Node] = {}
    calls: Counter[str] = Counter()
    kinds: dict[str, str] = {}
    for node in graph.nodes:
        for call, (name, kind) in _stack(node).items():
            if call not in last:
                calls[name] += 1
            last[call], kinds[call] = node, kind
    ends: dict[fx.Node, list[tuple[str, str]]] = {}
    for call, node in last.items():
        name = call.partition("@")[0]
        ends.setdefault(node, []).append((name, kinds[call]))
    names = {}
    for node in maps:
        for name, kind in sorted(ends.get(node, []), key=lambda e: -len(e[0])):
            if calls[name] == 1 and _is_layer(node, kind):
                names[node] = name
                break
    return names


def _stack(node: fx.Node) -> dict[str, tuple[str, str]]:
    """The modules of the original that an operation lies in: call ("a.b@1") -> (name, class)."""
    stack = node.meta.get("nn_module_stack") or {}
    return {
        name + "@" * ("@" in key) + key.partition("@")[2]: (name, str(kind))
        for key, (name, kind) in stack.items()
        if PLAIN_NAME.fullmatch(name) and not name.startswith("_empty_nn_module_stack")
    }


def _is_layer(node: fx.Node, kind: str) -> bool:
    """Convolutions, activations, and blocks, as in `find_layers`."""
    plain = kind.startswith("torch.nn.modules") and not kind.startswith(
        "torch.nn.modules.container"
    )
    return not plain or _operation(node) in (*_CONVOLUTIONS, *_ACTIVATIONS)


def _is_map(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.ndim == 5 and value.shape[2:] != (1, 1, 1)


def _name_output(traced: fx.GraphModule, node: fx.Node, name: str) -> None:
    """Put a `LayerOutput` called `name` after a node; it takes over the weights kept there."""
    layer = LayerOutput()
    parent, _, leaf = name.rpartition(".")
    try:
        kept = traced.get_submodule(name)
    except AttributeError:
        kept = None
    if isinstance(kept, LayerOutput):
        return
    if kept is not None:
        layer._parameters, layer._buffers, layer._modules = (
            kept._parameters,
            kept._buffers,
            kept._modules,
        )
        setattr(traced.get_submodule(parent), leaf, layer)
    else:
        traced.add_submodule(name, layer)
    with traced.graph.inserting_after(node):
        tap = traced.graph.call_module(name, (node,))
    tap.meta["val"] = node.meta.get("val")
    node.replace_all_uses_with(tap, delete_user_cb=lambda user: user is not tap)


def _name_linear(traced: fx.GraphModule, node: fx.Node) -> None:
    """Make a linear operation with its own weights an ``nn.Linear``, as CAM looks for one."""
    x: Any = node.args[0]
    weights: list[Any] = list(node.args[1:])
    if not all(isinstance(w, fx.Node) and w.op == "get_attr" for w in weights if w is not None):
        return
    name, _, leaf = str(weights[0].target).rpartition(".")
    if leaf != "weight" or not name:
        return
    kept: Any = traced.get_submodule(name)
    if {*kept._parameters, *kept._buffers} - {"weight", "bias"} or kept._modules:
        return
    n_out, n_in = kept.weight.shape
    layer = nn.Linear(n_in, n_out, bias=False, device="meta")
    bias = None if len(weights) < 2 or weights[1] is None else kept.bias
    layer._parameters = {"weight": kept.weight, "bias": bias}
    parent, _, own = name.rpartition(".")
    setattr(traced.get_submodule(parent), own, layer)
    with traced.graph.inserting_before(node):
        call = traced.graph.call_module(name, (x,))
    call.meta.update(node.meta)
    node.replace_all_uses_with(call)
    traced.graph.erase_node(node)
    for weight in weights:
        if weight is not None and not weight.users:
            traced.graph.erase_node(weight)


def _class_name(graph: fx.Graph) -> str:
    for node in graph.nodes:
        for name, kind in (node.meta.get("nn_module_stack") or {}).values():
            short = str(kind).rpartition(".")[2]
            if name == "" and short.isidentifier() and short != "Wrapper":
                return short
    return "Program"
