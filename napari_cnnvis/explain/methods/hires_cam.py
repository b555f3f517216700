"""3D HiResCAM (Draelos and Carin 2020)."""

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

__all__ = ["HiResCam", "hires_cam"]


@dataclass(frozen=True)
class HiResCam(GradientMethod):
    """See `hires_cam`."""

    key = "hirescam"
    title = "HiResCAM"
    tip = (
        "As Grad-CAM, but without averaging the gradient over the layer: shows only what the "
        "layer's cells really add to the score."
    )
    reading = (
        "Each cell's activation times its own gradient: what the cell adds to the score, to first "
        "order. Exact where the network is linear after the layer.",
        "Noisier than Grad-CAM in early layers.",
        COARSE,
        PLACE,
    )
    function = "hires_cam"
    place = 40

    @staticmethod
    def cells(a: Tensor, g: Tensor) -> Tensor:
        import torch

        return torch.einsum("kabc,kabc->abc", g, a)


def hires_cam(
    model: Model,
    volume: Scan,
    target: int | str,
    *,
    layer: str | None = None,
    relu: bool = True,
    score: str = "logit",
    alignment: str = "stretch",
) -> Attribution | LayerMaps:
    """3D HiResCAM: gradients are not averaged, so the map shows only what the layer's cells do.

    Eq. 5 of Draelos and Carin 2020 (arXiv:2011.08891). In a net that is linear after
    the layer, the signed map sums to the score without its bias. Parameters, result
    and errors as in `grad_cam`.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> cv.hires_cam(model, volume, "lesion").name
    'HiResCAM · lesion · relu'
    """
    how = HiResCam(layer=layer, relu=relu, score=score, alignment=alignment)
    return how.run(model, volume, target)
