"""3D class activation maps (Zhou et al. 2016; 3D-CAM of Yang, Rangarajan and Ranka 2018)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.common_parameters import alignment
from napari_cnnvis.explain.layers.gradient_method import COARSE
from napari_cnnvis.explain.method import Method
from napari_cnnvis.explain.parameter import parameter
from napari_cnnvis.models.output_kinds import OUTPUT_KINDS
from napari_cnnvis.progress import Progress
from napari_cnnvis.scan.volume import Scan, channels_of

if TYPE_CHECKING:
    from torch import Tensor

    from napari_cnnvis.explain.attribution import Attribution
    from napari_cnnvis.models.layers import NetworkLayers
    from napari_cnnvis.models.model import Model
    from napari_cnnvis.ucm.hierarchy import Hierarchy

__all__ = ["Cam", "cam"]


@dataclass(frozen=True)
class Cam(Method):
    """See `cam`."""

    key = "cam"
    title = "CAM"
    tip = (
        "Class activation map: the last layer's maps, weighted by the class's linear weights. "
        "Exact for networks with global average pooling."
    )
    reading = (
        "Each cell's share of the class's logit: the mean over all cells, plus the bias, is the logit. "
        "Warm speaks for the class, cold against it. It is exact for networks that end in global average "
        "pooling and one linear layer.",
        COARSE,
    )
    function = "cam"
    place = 10

    alignment: str = alignment()
    against: str | None = parameter(
        None,
        "Against",
        "Another class, by name: the map shows what speaks for the class rather than for that one.",
        kind="class",
        none="no other class",
    )

    @classmethod
    def why_not(cls, layers: NetworkLayers) -> str:
        return layers.no_cam_reason

    def run(
        self,
        model: Model,
        volume: Scan,
        target: int | str,
        *,
        hierarchy: Hierarchy | None = None,
        progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> Any:
        import torch

        from napari_cnnvis.explain.layers.capture import run_and_capture
        from napari_cnnvis.explain.layers.layer_maps import LayerMaps
        from napari_cnnvis.explain.layers.layer_passes import pieces
        from napari_cnnvis.explain.record import Record

        index = model.class_index(target)
        other = None if self.against is None else model.class_index(self.against)
        if other == index:
            raise MethodError(
                f"The class '{self.against}' is explained against itself; name another one."
            )
        conformed = model.conform(volume)
        if not model.outputs.one_for_each:
            raise MethodError(
                f"CAM needs one output for each class; those of {model.architecture} are "
                f"{OUTPUT_KINDS[model.outputs.kind]}. Use Grad-CAM."
            )
        layers = model.layers(conformed.data.shape)
        if layers.cam_head is None:
            raise MethodError(layers.no_cam_reason)
        head = layers.cam_head
        name = head.features.name
        linear: Any = model.module.get_submodule(head.linear)

        def weights_of(column: int) -> Tensor:
            return linear.weight[model.outputs.column(column)] * model.outputs.sign(column)

        def maps_of(channels: np.ndarray) -> tuple[dict, dict[str, str], dict[str, str]]:
            _, outputs = run_and_capture(
                model.module,
                model.reading,
                model.tensor(channels),
                [name, head.linear],
                with_graph=False,
            )
            maps = head.features.map_of(outputs[name])[0]
            with torch.no_grad():
                expected = maps.mean((1, 2, 3)) @ linear.weight.T
                if linear.bias is not None:
                    expected = expected + linear.bias
                weights = weights_of(index)
                if other is not None:
                    weights = weights - weights_of(other)
                cells = torch.einsum("k,kabc->abc", weights, maps)
            if not torch.allclose(expected, outputs[head.linear][0], rtol=1e-3, atol=1e-3):
                raise MethodError(
                    f"What lies between {name} and {head.linear} is not a plain global average pool, so "
                    f"CAM does not apply; use Grad-CAM on {layers.recommended}."
                )
            return {"cam": {name: cells.float().cpu().numpy()}}, {}, {}

        return LayerMaps(
            tuple(pieces(model, conformed, maps_of)),
            {name: head.features},
            channels_of(volume)[0],
            conformed,
            self,
            Record.of_run(self, model, volume, conformed, index),
            name,
        )[name]


def cam(
    model: Model,
    volume: Scan,
    target: int | str,
    *,
    alignment: str = "stretch",
    against: str | None = None,
) -> Attribution:
    """3D-CAM: how much each place adds to a class's logit in a net with a GAP head.

    ``cam(v) = sum_k W[c, k] * A_k(v)`` with A the maps that enter the global
    average pool and W the final linear layer; no bias, no ReLU (METHODS: eq. 2
    of Zhou et al. 2016, arXiv:1512.04150).

    Parameters
    ----------
    model : Model
        Its net ends in global average pooling and one linear layer.
    volume : Volume, or a sequence with one for each input channel
        The scan.
    target : int or str
        The class to explain, by index or name.
    alignment : {"stretch", "receptive field"}
        Where a cell of the layer is put: spread evenly over the input (trilinear,
        ``align_corners=False``), or where its receptive field is centred.
    against : str, optional
        Another class, by name: its weights are taken from those of `target`, so that the
        map's mean is the difference of the two logits without the biases' difference.

    Returns
    -------
    Attribution
        On the scan's grid, in units of the logit (its mean over the layer's cells,
        plus the bias, is the logit).

    Raises
    ------
    MethodError
        If the net has no such head, there is no such class, or the two are the same.
    ComputeError
        If the network cannot run.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> cv.cam(model, volume, "lesion")
    Attribution(CAM · lesion · relu, 24 x 26 x 22 voxels, 0 to 804)
    """
    return Cam(alignment=alignment, against=against).run(model, volume, target)
