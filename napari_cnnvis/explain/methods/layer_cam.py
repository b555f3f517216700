"""3D LayerCAM (Jiang et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_cnnvis.explain.layers.gradient_method import PLACE, GradientMethod
from napari_cnnvis.scan.volume import Scan

if TYPE_CHECKING:
    from torch import Tensor

    from napari_cnnvis.explain.attribution import Attribution
    from napari_cnnvis.explain.layers.layer_maps import LayerMaps
    from napari_cnnvis.models.model import Model

__all__ = ["LayerCam", "layer_cam"]


@dataclass(frozen=True)
class LayerCam(GradientMethod):
    """See `layer_cam`."""

    key = "layercam"
    title = "LayerCAM"
    tip = "Each cell is weighted by its own positive gradient; made for early, fine layers."
    reading = (
        "Each cell's activation times its own gradient where that is positive. Made for early layers, "
        "which are fine but know little.",
        "What speaks against the class is never shown. Early layers mark edges whatever the network has "
        "learned: compare with a network of random weights.",
        PLACE,
    )
    function = "layer_cam"
    place = 50

    @staticmethod
    def cells(a: Tensor, g: Tensor) -> Tensor:
        import torch

        return torch.einsum("kabc,kabc->abc", g.relu(), a)


def layer_cam(
    model: Model,
    volume: Scan,
    target: int | str,
    *,
    layer: str | None = None,
    relu: bool = True,
    score: str = "logit",
    alignment: str = "stretch",
) -> Attribution | LayerMaps:
    """3D LayerCAM: each cell is weighted by its own gradient where that is positive.

    Eq. 5 to 7 of Jiang et al. 2021 (IEEE TIP 30, 5875-5888); made for early layers.
    Parameters, result and errors as in `grad_cam`.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> cv.layer_cam(model, volume, "lesion", layer="conv").name
    'LayerCAM · lesion · conv'
    """
    how = LayerCam(layer=layer, relu=relu, score=score, alignment=alignment)
    return how.run(model, volume, target)
