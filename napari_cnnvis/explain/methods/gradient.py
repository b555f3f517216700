"""The score's gradient with respect to the input (Simonyan et al. 2014)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_cnnvis.explain.inputs.input_method import NOISY, InputMethod

if TYPE_CHECKING:
    from torch import Tensor

    from napari_cnnvis.explain.inputs.input_run import InputRun

__all__ = ["Gradient"]


@dataclass(frozen=True)
class Gradient(InputMethod):
    """How much the score changes with each voxel: ``d score / d x`` (arXiv:1312.6034).

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> cv.explain(model, volume, "gradient", target="lesion").name
    'Gradient · lesion'
    """

    key = "gradient"
    title = "Gradient"
    tip = "How much the score changes with a voxel's intensity. One pass, as fine as the scan, and noisy."
    reading = (
        "How the score would change if a voxel became a little brighter. Warm: it would rise.",
        NOISY,
    )
    place = 72

    def values(self, run: InputRun) -> tuple[Tensor, bool]:
        return run.gradient(run.x)[1], False
