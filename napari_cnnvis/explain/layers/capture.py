"""Catch the outputs of layers while a network runs, with a graph only after the first of them."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from napari_cnnvis.errors import MethodError
from napari_cnnvis.models.execution import inspecting, plain_errors
from napari_cnnvis.models.scores import Reading

__all__ = ["run_and_capture"]


def run_and_capture(
    module: nn.Module, reading: Reading, x: Tensor, names: Collection[str], with_graph: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run a network once and keep what the named layers give.

    Parameters
    ----------
    module : nn.Module
        Left as it was found.
    reading : Reading
        How it is run to its scores.
    x : Tensor, shape (1, channels, i, j, k)
    names : collection of str
        Modules that run once in a forward pass.
    with_graph : bool
        Keep the graph from the earliest of these layers to the logits, and no more.

    Returns
    -------
    scores : Tensor, shape (1, n_outputs)
        Raw outputs.
    outputs : dict of str to Tensor

    Raises
    ------
    ComputeError
        If the network fails.
    MethodError
        If a layer's output is overwritten later on even after a second try.
    """
    for copy in (False, True):  # copies only for networks that overwrite their activations
        scores, outputs, versions = _run(module, reading, x, names, with_graph, copy)
        if all(outputs[name]._version == versions[name] for name in outputs):
            return scores, outputs
    raise MethodError("The network overwrites this layer's output; choose another layer.")


def _run(
    module: nn.Module,
    reading: Reading,
    x: Tensor,
    names: Collection[str],
    with_graph: bool,
    copy: bool,
) -> tuple[Tensor, dict[str, Tensor], dict[str, int]]:
    outputs: dict[str, Tensor] = {}
    versions: dict[str, int] = {}

    def keep(name: str, output: Tensor) -> Tensor:
        if with_graph and not output.requires_grad:
            output = output.detach().requires_grad_(True)
        if not isinstance(output, Tensor):
            raise MethodError(f"The layer {name} gives no tensor; choose another layer.")
        outputs[name], versions[name] = output, output._version
        return output.clone() if copy or output.is_leaf else output

    handles = []
    try:
        for name in names:
            layer = module.get_submodule(name)
            handles.append(
                layer.register_forward_hook(lambda _, __, output, name=name: keep(name, output))
            )
        with inspecting(module), torch.set_grad_enabled(with_graph), plain_errors("running"):
            scores = reading.run(module, x.clone())
    finally:
        for handle in handles:
            handle.remove()
    missing = [name for name in names if name not in outputs]
    if missing:
        raise MethodError(f"The network did not run its layer {missing[0]}; choose another.")
    return scores, outputs, versions
