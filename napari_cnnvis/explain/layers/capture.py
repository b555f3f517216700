"""Catch the outputs of layers while a network runs, with a graph only after the first of them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from napari_cnnvis.errors import ComputeError, MethodError
from napari_cnnvis.models.execution import inspecting, plain_errors
from napari_cnnvis.models.gradient_flow import ThroughCuts
from napari_cnnvis.models.scores import Reading

__all__ = ["run_and_capture"]


def run_and_capture(
    module: nn.Module,
    reading: Reading,
    x: Tensor,
    names: Collection[str],
    with_graph: bool,
    through_cuts: bool = False,
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
        Modules that run in a forward pass; of one that runs several times the last counts.
    with_graph : bool
        Keep the graph from the earliest of these layers to the logits, and no more.
    through_cuts : bool
        Also where the network's code cuts it off (``no_grad``, ``detach``).

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
    run = _Pass(module, reading, x, names, with_graph, through_cuts)
    for copy in (False, True):  # copies only for networks that overwrite their activations
        try:
            scores, outputs, versions = run(copy)
        except ComputeError as exc:
            if not with_graph or "requires_grad=False" not in str(exc.__cause__):
                raise
            run = replace(run, from_input=True)  # a hook of the user's own asks for a gradient
            scores, outputs, versions = run(copy)
        if all(outputs[name]._version == versions[name] for name in outputs):
            return scores, outputs
    raise MethodError("The network overwrites this layer's output; choose another layer.")


@dataclass(frozen=True)
class _Pass:
    module: nn.Module
    reading: Reading
    x: Tensor
    names: Collection[str]
    with_graph: bool
    through_cuts: bool
    from_input: bool = False

    def __call__(self, copy: bool) -> tuple[Tensor, dict[str, Tensor], dict[str, int]]:
        outputs: dict[str, Tensor] = {}
        versions: dict[str, int] = {}

        def keep(name: str, output: Tensor) -> Tensor:
            if not isinstance(output, Tensor):
                raise MethodError(f"The layer {name} gives no tensor; choose another layer.")
            if self.with_graph and not output.requires_grad:
                output = output.detach().requires_grad_(True)
            outputs[name], versions[name] = output, output._version
            return output.clone() if copy or output.is_leaf else output

        x = self.x.clone().requires_grad_(self.with_graph and self.from_input)
        handles = []
        try:
            for name in self.names:
                layer = self.module.get_submodule(name)
                handles.append(
                    layer.register_forward_hook(lambda _, __, output, name=name: keep(name, output))
                )
            with (
                inspecting(self.module),
                torch.set_grad_enabled(self.with_graph),
                plain_errors("running"),
                ThroughCuts() if self.through_cuts else contextlib.nullcontext(),
            ):
                scores = self.reading.run(self.module, x)
        finally:
            for handle in handles:
                handle.remove()
        missing = [name for name in self.names if name not in outputs]
        if missing:
            raise MethodError(f"The network did not run its layer {missing[0]}; choose another.")
        return scores, outputs, versions
