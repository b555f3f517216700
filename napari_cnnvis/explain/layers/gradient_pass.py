"""Maps that weight a layer's activations by the gradient of a score, from one pass for all of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.layers.capture import run_and_capture
from napari_cnnvis.explain.layers.layer_maps import LayerMaps
from napari_cnnvis.explain.layers.layer_passes import pieces
from napari_cnnvis.explain.record import Record
from napari_cnnvis.models.execution import plain_errors
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

    def maps_of(channels: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        return _pass(model, channels, index, list(layers), how.score, kinds)

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
    layers: list[str],
    score: str,
    methods: Collection[Any],
) -> dict[str, dict[str, np.ndarray]]:
    """The cells of each layer by method, from one forward and one backward pass."""
    raw, outputs = run_and_capture(
        model.module, model.reading, model.tensor(channels), layers, with_graph=True
    )
    with torch.enable_grad(), plain_errors("back-propagating to the target layer"):
        value = model.outputs.score(raw, target, score)[0]
        gradients = torch.autograd.grad(value, list(outputs.values()), allow_unused=True)
    cells: dict[str, dict[str, np.ndarray]] = {method.key: {} for method in methods}
    for (name, maps), gradient in zip(outputs.items(), gradients, strict=True):
        a = maps.detach()[0].float()
        g = torch.zeros_like(a) if gradient is None else gradient[0].float()
        for method in methods:
            cells[method.key][name] = method.cells(a, g).cpu().numpy()
    return cells
