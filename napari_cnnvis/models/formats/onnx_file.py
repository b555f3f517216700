"""ONNX files, by way of onnx2torch."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

from torch import nn

from napari_cnnvis.errors import CheckpointError, shortened

__all__ = ["read_onnx"]

#: the newest set of operations that the converter knows most of
_OPERATIONS = 17
_INSTEAD = "export the network with torch.export as .pt2, or with opset_version=17"


def read_onnx(path: Path) -> tuple[nn.Module, dict[str, Any], tuple[str, ...]]:
    """An ONNX file as a network, what is known of its input, and notes.

    Raises
    ------
    CheckpointError
        If there is no converter, the file is damaged, or it has operations that the converter
        does not know.
    """
    try:
        import onnx
        from onnx2torch import convert
    except (ImportError, RuntimeError) as exc:  # RuntimeError: a torchvision of another torch
        raise CheckpointError(
            f"{path} is an ONNX file, which needs a converter: pip install 'napari-cnnvis[onnx]' "
            f"({shortened(exc, 100)}). Or {_INSTEAD}."
        ) from exc
    try:
        program = onnx.load(path, load_external_data=False)
        if any(onnx.external_data_helper.uses_external_data(t) for t in program.graph.initializer):
            onnx.checker.check_model(path)  # other files, but only in its folder
            program = onnx.load(path)
    except Exception as exc:  # a damaged file can raise anything
        raise CheckpointError(
            f"{path} is not a complete ONNX file ({shortened(exc, 100)}); copy or download it again."
        ) from exc
    notes = ("converted from ONNX",)
    try:
        _own_copies(program)
        if any(o.domain == "" and o.version > _OPERATIONS for o in program.opset_import):
            program = onnx.version_converter.convert_version(program, _OPERATIONS)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            module = convert(program).eval()
    except Exception as exc:  # the converter raises what it pleases
        raise CheckpointError(
            f"{path} has operations that cannot be converted ({shortened(exc, 150)}); {_INSTEAD}."
        ) from exc
    return module, _header(program), notes


def _own_copies(program: Any) -> None:
    """Weights that the file names twice by an "Identity", which the converter does not know."""
    graph = program.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in list(graph.node):
        if node.op_type == "Identity" and node.input[0] in weights:
            again = type(weights[node.input[0]])()
            again.CopyFrom(weights[node.input[0]])
            again.name = node.output[0]
            graph.initializer.append(again)
            weights[again.name] = again
            graph.node.remove(node)


def _header(program: Any) -> dict[str, Any]:
    """Channels and size of the input, where they are fixed."""
    weights = {tensor.name for tensor in program.graph.initializer}
    inputs = [value for value in program.graph.input if value.name not in weights]
    if not inputs:
        return {}
    sizes = [axis.dim_value for axis in inputs[0].type.tensor_type.shape.dim]
    if len(sizes) != 5:
        return {}
    found: dict[str, Any] = {"channels": sizes[1] or 1}
    if all(sizes[2:]):
        found["shape"] = sizes[2:]
    return {"input": found}
