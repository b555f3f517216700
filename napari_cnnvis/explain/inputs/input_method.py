"""What the methods that map gradients of the input have in common."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_cnnvis.explain.common_parameters import score, smooth
from napari_cnnvis.explain.method import Method
from napari_cnnvis.explain.parameter import parameter
from napari_cnnvis.progress import Progress
from napari_cnnvis.scan.volume import Scan

if TYPE_CHECKING:
    from torch import Tensor

    from napari_cnnvis.explain.inputs.input_run import InputRun
    from napari_cnnvis.models.model import Model
    from napari_cnnvis.ucm.hierarchy import Hierarchy

__all__ = ["NOISY", "SIGNS", "InputMethod"]

#: what of a value is mapped
SIGNS = {"signed": "with its sign", "absolute": "its size"}

NOISY = (
    "Values jump from voxel to voxel, also where the network sees nothing of interest: edges and bright "
    "tissue show up in maps of networks with random weights, too. Smooth the map, and look at the same "
    "map of a random network before you believe it."
)


@dataclass(frozen=True)
class InputMethod(Method):
    """Gives each voxel of the input a value; channels are added up.

    A method of this kind adds `values`, and what every `Method` has.
    """

    sign: str = parameter(
        "signed",
        "Values",
        "With its sign: whether more intensity speaks for or against the class. Its size: how much "
        "depends on a voxel at all.",
        noun="a kind of values",
        choices=SIGNS,
        redraws=True,
    )
    score: str = score("logit")
    smooth: float = smooth()

    @abstractmethod
    def values(self, run: InputRun) -> tuple[Tensor, bool]:
        """Values of the network's input (1, c, i, j, k), and whether the run was cut short."""

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
        from napari_cnnvis.explain.inputs.input_run import run_inputs

        return run_inputs(self, model, volume, target, progress, cancel)

    def view(self, target: int | str, outcome: Any, ran: Method, ran_target: int | str) -> Any:
        from napari_cnnvis.explain.inputs.voxel_values import redrawn

        drawn = {name: getattr(self, name) for name, p in self.parameters().items() if p.redraws}
        same = type(ran) is type(self) and ran.replaced(**drawn) == self
        return redrawn(outcome, self) if same and target == ran_target else None
