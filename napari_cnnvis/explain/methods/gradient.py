"""3D Grad-CAM and its variants: a layer's maps, weighted by the gradient of the score.

All four come from one forward and one backward pass, at any layer, in any number of
dimensions. With A_k a layer's maps, G_k = d score / d A_k, and sums over cells:

- Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391; 3D-Grad-CAM of Yang, Rangarajan
  and Ranka 2018): ``sum_k mean(G_k) A_k``
- Grad-CAM++ (Chattopadhay et al. 2018, arXiv:1710.11063): ``sum_k w_k A_k`` with
  ``w_k = sum(a_k ReLU(G_k))`` and ``a_k = G_k^2 / (2 G_k^2 + sum(A_k) G_k^3)``
- HiResCAM (Draelos and Carin 2020, arXiv:2011.08891): ``sum_k G_k A_k``
- LayerCAM (Jiang et al. 2021, IEEE TIP 30): ``sum_k ReLU(G_k) A_k``

A ReLU over the sum keeps what supports the class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, overload

import numpy as np
import torch
from torch import Tensor

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.attribution import Attribution, provenance_of
from napari_cnnvis.explain.layers.capture import run_and_capture
from napari_cnnvis.explain.layers.layer_maps import LayerMaps
from napari_cnnvis.explain.layers.layer_passes import pieces
from napari_cnnvis.explain.request import ALIGNMENTS, GRADIENT, METHODS, SCORES, check_choice
from napari_cnnvis.models.execution import plain_errors
from napari_cnnvis.models.model import Model
from napari_cnnvis.scan.volume import Scan, channels_of

__all__ = ["grad_cam", "grad_cam_plus_plus", "gradient_maps", "hires_cam", "layer_cam"]


@overload
def grad_cam(
    model: Model,
    volume: Scan,
    target: int | str,
    layer: Literal["all"],
    relu: bool = True,
    score: str = "logit",
    alignment: str = "stretch",
) -> LayerMaps: ...


@overload
def grad_cam(
    model: Model,
    volume: Scan,
    target: int | str,
    layer: str | None = None,
    relu: bool = True,
    score: str = "logit",
    alignment: str = "stretch",
) -> Attribution: ...


def grad_cam(
    model: Model,
    volume: Scan,
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
    volume : Volume, or a sequence with one for each input channel
        The scan.
    target : int or str
        The class to explain, by index or name.
    layer : str, optional
        One of ``model.target_layers``; ``model.recommended_layer`` by default;
        "all" for every layer from one forward and one backward pass.
    relu : bool
        Keep only what supports the class. False keeps the sign, as the reference shows it.
    score : {"logit", "log_prob", "probability"}
        What is differentiated. A regression has one score only, the value.
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
    return gradient_maps("grad-cam", model, volume, target, layer, relu, score, alignment)


def grad_cam_plus_plus(
    model: Model,
    volume: Scan,
    target: int | str,
    layer: str | None = None,
    relu: bool = True,
    score: str = "logit",
    alignment: str = "stretch",
) -> Attribution | LayerMaps:
    """3D Grad-CAM++: as Grad-CAM, but cells whose gradient is positive count for more.

    Eq. 19 of Chattopadhay et al. 2018 (arXiv:1710.11063), without the factor
    exp(score), which scales the whole map. Parameters, result and errors as in
    `grad_cam`.
    """
    return gradient_maps("grad-cam++", model, volume, target, layer, relu, score, alignment)


def hires_cam(
    model: Model,
    volume: Scan,
    target: int | str,
    layer: str | None = None,
    relu: bool = True,
    score: str = "logit",
    alignment: str = "stretch",
) -> Attribution | LayerMaps:
    """3D HiResCAM: gradients are not averaged, so the map shows only what the layer's cells do.

    Eq. 5 of Draelos and Carin 2020 (arXiv:2011.08891). In a net that is linear behind
    the layer, the signed map sums to the score without its bias. Parameters, result
    and errors as in `grad_cam`.
    """
    return gradient_maps("hirescam", model, volume, target, layer, relu, score, alignment)


def layer_cam(
    model: Model,
    volume: Scan,
    target: int | str,
    layer: str | None = None,
    relu: bool = True,
    score: str = "logit",
    alignment: str = "stretch",
) -> Attribution | LayerMaps:
    """3D LayerCAM: each cell is weighted by its own gradient where that is positive.

    Eq. 5 to 7 of Jiang et al. 2021 (IEEE TIP 30, 5875-5888); made for early layers.
    Parameters, result and errors as in `grad_cam`.
    """
    return gradient_maps("layercam", model, volume, target, layer, relu, score, alignment)


def gradient_maps(
    method: str,
    model: Model,
    volume: Scan,
    target: int | str,
    layer: str | None = None,
    relu: bool = True,
    score: str = "logit",
    alignment: str = "stretch",
) -> Attribution | LayerMaps:
    """The map of one of the methods above, by name; see `grad_cam`.

    For layer "all" the result holds the maps of all four (`LayerMaps.of`).
    """
    check_choice(method, GRADIENT, "a gradient method")
    check_choice(score, SCORES, "a score")
    check_choice(alignment, ALIGNMENTS, "an alignment")
    index = model.class_index(target)
    conformed = model.conform(volume)
    shape = conformed.data.shape
    found = model.layers(shape)
    if not found.targets:
        raise MethodError(
            f"{model.architecture} has no layer with 3D maps, so {METHODS[method]} does not apply; "
            "use sensitivity."
        )
    if layer == "all":
        layers = {t.name: t for t in found.targets}
    else:
        name = layer or found.recommended
        layers = {name: model.layer(name, shape)}
    methods = GRADIENT if layer == "all" else (method,)

    def maps_of(channels: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        return _pass(model, channels, index, list(layers), score, methods)

    provenance = provenance_of(
        model,
        volume,
        conformed,
        METHODS[method],
        index,
        relu=relu,
        score=model.outputs.score_name(score),
        alignment=alignment,
    )
    maps = LayerMaps(
        tuple(pieces(model, conformed, maps_of)),
        layers,
        channels_of(volume)[0],
        conformed,
        method,
        relu,
        alignment,
        provenance,
    )
    return maps if layer == "all" else maps[name]


def _pass(
    model: Model,
    channels: np.ndarray,
    target: int,
    layers: list[str],
    score: str,
    methods: tuple[str, ...],
) -> dict[str, dict[str, np.ndarray]]:
    """The cells of each layer by method, from one forward and one backward pass."""
    raw, outputs = run_and_capture(model.module, model.tensor(channels), layers, with_graph=True)
    with torch.enable_grad(), plain_errors("back-propagating to the target layer"):
        value = model.outputs.score(raw, target, score)[0]
        gradients = torch.autograd.grad(value, list(outputs.values()), allow_unused=True)
    cells: dict[str, dict[str, np.ndarray]] = {method: {} for method in methods}
    for (name, maps), gradient in zip(outputs.items(), gradients, strict=True):
        a = maps.detach()[0].float()
        g = torch.zeros_like(a) if gradient is None else gradient[0].float()
        for method in methods:
            cells[method][name] = _RULES[method](a, g).cpu().numpy()
    return cells


def _grad_cam(a: Tensor, g: Tensor) -> Tensor:
    return torch.einsum("k,kabc->abc", g.mean((1, 2, 3)), a)


def _grad_cam_plus_plus(a: Tensor, g: Tensor) -> Tensor:
    below = 2 + a.sum((1, 2, 3), keepdim=True) * g  # G^2 is left out: it can underflow
    share = 1 / torch.where(below == 0, torch.ones_like(below), below)
    return torch.einsum("k,kabc->abc", (share * g.relu()).sum((1, 2, 3)), a)


def _hires_cam(a: Tensor, g: Tensor) -> Tensor:
    return torch.einsum("kabc,kabc->abc", g, a)


def _layer_cam(a: Tensor, g: Tensor) -> Tensor:
    return torch.einsum("kabc,kabc->abc", g.relu(), a)


_RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "grad-cam": _grad_cam,
    "grad-cam++": _grad_cam_plus_plus,
    "hirescam": _hires_cam,
    "layercam": _layer_cam,
}
