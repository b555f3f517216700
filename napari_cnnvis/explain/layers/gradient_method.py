"""What Grad-CAM and its variants share: their parameters, and one pass for all of them."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_cnnvis.explain.common_parameters import alignment, score
from napari_cnnvis.explain.method import Method
from napari_cnnvis.explain.parameter import parameter
from napari_cnnvis.explain.registry import methods
from napari_cnnvis.progress import Progress
from napari_cnnvis.scan.volume import Scan

if TYPE_CHECKING:
    from torch import Tensor

    from napari_cnnvis.models.model import Model
    from napari_cnnvis.ucm.hierarchy import Hierarchy

__all__ = ["COARSE", "PLACE", "GradientMethod"]

COARSE = (
    "The map is as coarse as the layer: one cell covers a block of the scan, and what is drawn between "
    "cells is interpolation. 'Native cells' in the panel Inspect shows the cells themselves."
)
PLACE = (
    "Where a cell is drawn need not be where its receptive field is centred; the map's note says how "
    "far apart they are."
)


@dataclass(frozen=True)
class GradientMethod(Method):
    """Weights a layer's maps by the score's gradient; all such methods follow from one pass.

    A method of this kind adds `cells`, and what every `Method` has.
    """

    layer: str | None = parameter(
        None,
        "Layer",
        "The target layer, by name; the recommended one by default.",
        kind="layer",
        redraws=True,
    )
    relu: bool = parameter(
        True,
        "Only what supports the class",
        "ReLU, as in the Grad-CAM paper. Off keeps the sign: what speaks against the class, too.",
        redraws=True,
        option="signed",
        flag_value=False,
    )
    score: str = score("logit")
    alignment: str = alignment()

    @staticmethod
    @abstractmethod
    def cells(a: Tensor, g: Tensor) -> Tensor:
        """The map on a layer's cells.

        Parameters
        ----------
        a : Tensor, shape (k, i, j, l)
            The layer's activations.
        g : Tensor, shape (k, i, j, l)
            The score's gradient with respect to them.
        """

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
        from napari_cnnvis.explain.layers.gradient_pass import gradient_maps

        if self.layer != "all":
            maps = gradient_maps(self, [type(self)], model, volume, target)
            return maps[maps.recommended]
        kinds = [m for m in methods().values() if issubclass(m, GradientMethod)]
        return gradient_maps(self, kinds, model, volume, target)

    def widened(self) -> Method:
        """Of all layers at once, so that changing the layer is instant."""
        return self.replaced(layer="all")

    def view(self, target: int | str, outcome: Any, ran: Method, ran_target: int | str) -> Any:
        if not isinstance(ran, GradientMethod) or (target, self.score) != (ran_target, ran.score):
            return None
        from napari_cnnvis.explain.layers.layer_maps import LayerMaps

        if not isinstance(outcome, LayerMaps):  # there was no memory for all layers
            return super().view(target, outcome, ran, ran_target)
        seen = outcome.of(self.key, self.relu, self.alignment)
        return seen.get(self.layer or outcome.recommended)
