"""3D Grad-CAM (Selvaraju et al. 2017; 3D-Grad-CAM of Yang, Rangarajan and Ranka 2018)."""

from __future__ import annotations

from typing import Literal, overload

import torch

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.attribution import Attribution, provenance_of
from napari_cnnvis.explain.capture import run_and_capture
from napari_cnnvis.explain.layer_maps import LayerMaps
from napari_cnnvis.explain.options import ALIGNMENTS, SCORES, check_choice
from napari_cnnvis.explain.scores import score_of
from napari_cnnvis.models.model import Model
from napari_cnnvis.models.running import plain_errors
from napari_cnnvis.volume import Volume

__all__ = ["grad_cam"]


@overload
def grad_cam(
    model: Model,
    volume: Volume,
    target: int | str,
    layer: Literal["all"],
    relu: bool = True,
    score: str = "logit",
    alignment: str = "stretch",
) -> LayerMaps: ...


@overload
def grad_cam(
    model: Model,
    volume: Volume,
    target: int | str,
    layer: str | None = None,
    relu: bool = True,
    score: str = "logit",
    alignment: str = "stretch",
) -> Attribution: ...


def grad_cam(
    model: Model,
    volume: Volume,
    target: int | str,
    layer: str | None = None,
    relu: bool = True,
    score: str = "logit",
    alignment: str = "stretch",
) -> Attribution | LayerMaps:
    """3D Grad-CAM of a target layer.

    ``map(v) = ReLU(sum_k w_k A_k(v))`` with ``w_k`` the mean over all positions of
    d score / d A_k (eq. 1 and 2 of Selvaraju et al. 2017, arXiv:1610.02391).
    Back-propagation runs from the score to the layer and no further.

    Parameters
    ----------
    model : Model
    volume : Volume
        The scan.
    target : int or str
        The class to explain, by index or name.
    layer : str, optional
        One of ``model.target_layers``; ``model.recommended_layer`` by default;
        "all" for every layer from one forward and one backward pass.
    relu : bool
        Keep only what supports the class. False keeps the sign, as the reference shows it.
    score : {"logit", "log_prob", "probability"}
        What is differentiated.
    alignment : {"stretch", "receptive field"}
        Where a cell of the layer is put: spread evenly over the input (trilinear,
        ``align_corners=False``), or where its receptive field is centred. The two
        differ for nets without padding; the map's ``notes`` then say by how much.

    Returns
    -------
    Attribution, or LayerMaps (a mapping from layer name to Attribution) for "all"
        On the scan's grid, in units of the score per cell.

    Raises
    ------
    MethodError
        If there is no such layer, class, score or alignment.
    ComputeError
        If the network cannot run or memory runs out.
    """
    check_choice(score, SCORES, "a score")
    check_choice(alignment, ALIGNMENTS, "an alignment")
    index = model.class_index(target)
    conformed = model.conform(volume)
    shape = conformed.data.shape
    found = model.layers(shape)
    if not found.targets:
        raise MethodError(
            f"{model.architecture} has no layer with 3D maps, so Grad-CAM does not apply; use "
            "sensitivity."
        )
    if layer == "all":
        layers = {t.name: t for t in found.targets}
    else:
        name = layer or found.recommended
        layers = {name: model.layer(name, shape)}
    logits, outputs = run_and_capture(
        model.module, model.tensor(conformed.data), list(layers), with_graph=True
    )
    with torch.enable_grad(), plain_errors("back-propagating to the target layer"):
        value = score_of(logits, index, score)[0]
        gradients = torch.autograd.grad(value, list(outputs.values()), allow_unused=True)
    native = {}
    for (name, maps), gradient in zip(outputs.items(), gradients, strict=True):
        features = maps.detach()[0]
        weights = (
            torch.zeros_like(features[:, 0, 0, 0])
            if gradient is None
            else gradient[0].mean((1, 2, 3))
        )
        cells = torch.einsum("k,kabc->abc", weights, features)
        native[name] = (cells.relu() if relu else cells).float().cpu().numpy()
    provenance = provenance_of(
        model, volume, conformed, "Grad-CAM", index, relu=relu, score=score, alignment=alignment
    )
    maps = LayerMaps(native, layers, volume, conformed, alignment, provenance)
    return maps if layer == "all" else maps[name]
