"""Maps that weight a layer's activations by the gradient of a score, from one pass for all of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch

from napari_cnnvis.errors import ComputeError, MethodError
from napari_cnnvis.explain.flat_maps import why_no_gradient
from napari_cnnvis.explain.layers.capture import run_and_capture
from napari_cnnvis.explain.layers.layer_maps import LayerMaps
from napari_cnnvis.explain.layers.layer_passes import pieces
from napari_cnnvis.explain.record import Record
from napari_cnnvis.models.execution import OutOfMemory, plain_errors
from napari_cnnvis.models.layers import TargetLayer
from napari_cnnvis.models.model import Model
from napari_cnnvis.scan.volume import Scan, channels_of

__all__ = ["gradient_maps"]


def gradient_maps(
    how: Any, kinds: Collection[Any], model: Model, volume: Scan, target: int | str
) -> LayerMaps:
    """The maps of one layer, or of all for layer "all", by each of `kinds`.

    `how` is a `GradientMethod`, and one of `kinds`.

    Back-propagation runs from the score to the first layer and no further.

    Raises
    ------
    MethodError
        If there is no such layer or class.
    ComputeError
        If the network cannot run or memory runs out.
    """
    index = model.class_index(target)
    conformed = model.conform(volume)
    shape = conformed.data.shape
    found = model.layers(shape)
    if not found.targets:
        raise MethodError(
            f"{model.architecture} has no layer with 3D maps, so {how.title} does not apply; "
            "use sensitivity."
        )
    if how.layer == "all":
        layers = {t.name: t for t in found.targets}
    else:
        name = str(how.layer or found.recommended)
        layers = {name: model.layer(name, shape)}

    def maps_of(
        channels: np.ndarray,
    ) -> tuple[dict, dict[str, str], dict[str, str]]:
        return _pass(model, channels, index, layers, how.score, kinds)

    return LayerMaps(
        tuple(pieces(model, conformed, maps_of)),
        layers,
        channels_of(volume)[0],
        conformed,
        how,
        Record.of_run(how, model, volume, conformed, index),
        str(found.recommended) if how.layer == "all" else next(iter(layers)),
    )


def _pass(
    model: Model,
    channels: np.ndarray,
    target: int,
    layers: dict[str, TargetLayer],
    score: str,
    methods: Collection[Any],
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, str], dict[str, str]]:
    """The cells of each layer by method, from one forward and one backward pass.

    Further, by layer: why they are zero, and what is to be said of them.

    Where the network's code cuts the gradient off, a second pass goes through.
    """
    found = _gradients(model, channels, target, list(layers), score, through_cuts=False)
    cut_off = [name for name in layers if found is None or found[name][1] is None]
    if cut_off:
        through = _gradients(model, channels, target, cut_off, score, through_cuts=True)
        found = {**(found or {}), **(through or {})}
    cells: dict[str, dict[str, np.ndarray]] = {method.key: {} for method in methods}
    why_zero = {}
    for name, layer in layers.items():
        maps, gradient = found.get(name, (None, None)) if found else (None, None)
        if maps is None:
            a = g = torch.zeros((layer.channels, *layer.shape))
            why = why_no_gradient(name, a.numpy(), None)
        else:
            a = layer.map_of(maps.detach())[0].float()
            g = torch.zeros_like(a) if gradient is None else layer.map_of(gradient)[0].float()
            numbers = None if gradient is None else g.cpu().numpy()
            why = why_no_gradient(name, a.cpu().numpy(), numbers)
        if why:
            why_zero[name] = why
        for method in methods:
            cells[method.key][name] = method.cells(a, g).cpu().numpy()
    remarks = {
        name: f"The network's code cuts gradients off after {name} (no_grad or detach); this is the "
        "map without that."
        for name in cut_off
        if name not in why_zero
    }
    return cells, why_zero, remarks


_Gradients = dict[str, tuple[torch.Tensor, torch.Tensor | None]]


def _gradients(
    model: Model,
    channels: np.ndarray,
    target: int,
    names: list[str],
    score: str,
    through_cuts: bool,
) -> _Gradients | None:
    """Activations and gradients of layers; None if the network cannot be run so."""
    x = model.tensor(channels)
    try:
        raw, outputs = run_and_capture(model.module, model.reading, x, names, True, through_cuts)
        with torch.enable_grad(), plain_errors("back-propagating to the target layer"):
            value = model.outputs.score(raw, target, score)[0]
            wanted = list(outputs.values())
            if not value.requires_grad:
                return {name: (a, None) for name, a in outputs.items()}
            gradients = torch.autograd.grad(value, wanted, allow_unused=True)
    except OutOfMemory:
        raise
    except ComputeError as exc:
        # only without gradients, as under inference_mode or where code goes on with numpy
        if not through_cuts and not _is_about_gradients(exc):
            raise
        return None
    return {
        name: (maps, gradient)
        for (name, maps), gradient in zip(outputs.items(), gradients, strict=True)
    }


def _is_about_gradients(exc: ComputeError) -> bool:
    text = str(exc.__cause__).lower()
    return any(words in text for words in ("inference tensor", "requires grad", "require grad"))
