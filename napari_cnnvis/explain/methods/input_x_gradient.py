"""Intensity times gradient (Shrikumar et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_cnnvis.explain.inputs.input_method import NOISY, InputMethod

if TYPE_CHECKING:
    from torch import Tensor

    from napari_cnnvis.explain.inputs.input_run import InputRun

__all__ = ["InputXGradient"]


@dataclass(frozen=True)
class InputXGradient(InputMethod):
    """``x * d score / d x``, with x as the network sees it (arXiv:1605.01713).

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> cv.explain(model, volume, "input-x-gradient", target="lesion").name
    'Input x gradient · lesion'
    """

    key = "input-x-gradient"
    title = "Input x gradient"
    tip = (
        "The gradient times the voxel's intensity: what removing the voxel would take from the score, to "
        "first order. Zero where the network's input is zero."
    )
    reading = (
        "The first-order estimate of what the score owes to a voxel's intensity, against an input of zeros. "
        "Warm: it speaks for the class.",
        "Zeros count as nothing, whatever they mean: after z-scoring that is tissue of mean intensity.",
        NOISY,
    )
    place = 74

    def values(self, run: InputRun) -> tuple[Tensor, bool]:
        return run.x * run.gradient(run.x)[1], False
