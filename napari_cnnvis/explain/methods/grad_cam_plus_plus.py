"""3D Grad-CAM++ (Chattopadhay et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_cnnvis.explain.layers.gradient_method import COARSE, PLACE, GradientMethod
from napari_cnnvis.scan.volume import Scan

if TYPE_CHECKING:
    from torch import Tensor

    from napari_cnnvis.explain.attribution import Attribution
    from napari_cnnvis.explain.layers.layer_maps import LayerMaps
    from napari_cnnvis.models.model import Model

__all__ = ["GradCamPlusPlus", "grad_cam_plus_plus"]


@dataclass(frozen=True)
class GradCamPlusPlus(GradientMethod):
    """See `grad_cam_plus_plus`."""

    key = "grad-cam++"
    title = "Grad-CAM++"
    tip = (
        "As Grad-CAM, but places whose gradient is positive count for more; better where an "
        "object occurs several times."
    )
    reading = (
        "As Grad-CAM, but within each map places with a positive gradient count for more.",
        "Its weights have no unit; compare patterns, not values. It tends to mark more than Grad-CAM.",
        COARSE,
        PLACE,
    )
    function = "grad_cam_plus_plus"
    place = 30

    @staticmethod
    def cells(a: Tensor, g: Tensor) -> Tensor:
        import torch

        below = 2 + a.sum((1, 2, 3), keepdim=True) * g  # G^2 is left out: it can underflow
        share = 1 / torch.where(below == 0, torch.ones_like(below), below)
        return torch.einsum("k,kabc->abc", (share * g.relu()).sum((1, 2, 3)), a)


def grad_cam_plus_plus(
    model: Model,
    volume: Scan,
    target: int | str,
    *,
    layer: str | None = None,
    relu: bool = True,
    score: str = "logit",
    alignment: str = "stretch",
) -> Attribution | LayerMaps:
    """3D Grad-CAM++: as Grad-CAM, but cells whose gradient is positive count for more.

    ``map(v) = ReLU(sum_k w_k A_k(v))`` with ``w_k = sum(a_k ReLU(G_k))``, G_k the gradient of
    the score and ``a_k = G_k^2 / (2 G_k^2 + sum(A_k) G_k^3)``: eq. 19 of Chattopadhay et al.
    2018 (arXiv:1710.11063), without the factor exp(score), which scales the whole map.
    Parameters, result and errors as in `grad_cam`.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> cv.grad_cam_plus_plus(model, volume, "lesion").name
    'Grad-CAM++ · lesion · relu'
    """
    how = GradCamPlusPlus(layer=layer, relu=relu, score=score, alignment=alignment)
    return how.run(model, volume, target)
