"""3D Grad-CAM (Selvaraju et al. 2017; 3D-Grad-CAM of Yang, Rangarajan and Ranka 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, overload

from napari_cnnvis.explain.layers.gradient_method import COARSE, PLACE, GradientMethod
from napari_cnnvis.scan.volume import Scan

if TYPE_CHECKING:
    from torch import Tensor

    from napari_cnnvis.explain.attribution import Attribution
    from napari_cnnvis.explain.layers.layer_maps import LayerMaps
    from napari_cnnvis.models.model import Model

__all__ = ["GradCam", "grad_cam"]


@dataclass(frozen=True)
class GradCam(GradientMethod):
    """See `grad_cam`."""

    key = "grad-cam"
    title = "Grad-CAM"
    tip = (
        "A layer's maps, weighted by the mean gradient of the score. One pass, any layer; "
        "as coarse as the layer."
    )
    reading = (
        "The layer's maps, each weighted by how the score changes with it on average. Warm: more of "
        "what the layer sees here would raise the score.",
        "Averaging the gradient over the whole layer can mark places that the network did not use "
        "(compare with HiResCAM). With ReLU, what speaks against the class is hidden.",
        COARSE,
        PLACE,
    )
    function = "grad_cam"
    place = 20

    @staticmethod
    def cells(a: Tensor, g: Tensor) -> Tensor:
        import torch

        return torch.einsum("k,kabc->abc", g.mean((1, 2, 3)), a)


@overload
def grad_cam(  # type: ignore[overload-overlap]  # "all" is a str as well
    model: Model,
    volume: Scan,
    target: int | str,
    *,
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
    *,
    layer: str | None = None,
    relu: bool = True,
    score: str = "logit",
    alignment: str = "stretch",
) -> Attribution: ...


def grad_cam(
    model: Model,
    volume: Scan,
    target: int | str,
    *,
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

    Examples
    --------
    >>> import numpy as np
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> result = cv.grad_cam(model, volume, "lesion", layer="relu")
    >>> [int(i) for i in np.unravel_index(result.data.argmax(), result.data.shape)]
    [14, 12, 9]
    >>> sorted(cv.grad_cam(model, volume, "lesion", layer="all"))
    ['conv', 'relu']
    """
    how = GradCam(layer=layer, relu=relu, score=score, alignment=alignment)
    return how.run(model, volume, target)
