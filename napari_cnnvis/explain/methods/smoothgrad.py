"""SmoothGrad (Smilkov et al. 2017), and its square (Hooker et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_cnnvis.explain.inputs.input_method import NOISY, InputMethod
from napari_cnnvis.explain.parameter import parameter

if TYPE_CHECKING:
    from torch import Tensor

    from napari_cnnvis.explain.inputs.input_run import InputRun

__all__ = ["SmoothGrad"]


@dataclass(frozen=True)
class SmoothGrad(InputMethod):
    """The mean gradient over noisy copies of the input (arXiv:1706.03825).

    ``mean over samples of d score / d x at x + n``, n normal with a deviation of `noise` times
    the input's range; of its square, ``mean of (d score / d x)^2`` (arXiv:1806.10758). The
    record says the standard error over the samples, relative to the map.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> map = cv.explain(model, volume, "smoothgrad", target="lesion", samples=4)
    >>> map.record.values["standard_error"] > 0
    True
    """

    key = "smoothgrad"
    title = "SmoothGrad"
    tip = (
        "The gradient averaged over noisy copies of the scan, which takes its own noise away. As many "
        "passes as samples."
    )
    reading = (
        "How the score would change if a voxel became a little brighter, averaged over noisy copies of the "
        "scan. Warm: it would rise. Squared: how much depends on a voxel, without a sign.",
        NOISY,
    )
    place = 76

    noise: float = parameter(
        0.05,
        "Noise",
        "Deviation of the noise, as a share of the range of intensities that the network sees.",
        noun="noise",
        above=0,
        high=1,
    )
    samples: int = parameter(
        12,
        "Samples",
        "Noisy copies; each takes a pass forward and back.",
        noun="number of samples",
        low=2,
    )
    squared: bool = parameter(
        False,
        "Squared",
        "Averages the square of the gradient (SmoothGrad-squared).",
        option="squared",
        flag_value=True,
    )
    seed: int = parameter(0, "Seed", "Of the noise.", noun="seed", low=0, in_form=False)

    def values(self, run: InputRun) -> tuple[Tensor, bool]:
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        deviation = self.noise * float(run.x.max() - run.x.min())
        total, squares, done = torch.zeros_like(run.x), torch.zeros_like(run.x), 0
        for done in range(1, self.samples + 1):
            noise = torch.randn(run.x.shape, generator=generator).to(run.x)
            gradient = run.gradient(run.model.arranged(run.x + deviation * noise))[1]
            value = gradient**2 if self.squared else gradient
            total += value
            squares += value**2
            if run.cancelled:
                break
            run.tell(done, self.samples, total / done)
        mean = total / done
        if done > 1:
            variance = (squares / done - mean**2).clamp_min(0) / (done - 1)
            size = float(mean.square().mean().sqrt())
            run.found["standard_error"] = float(variance.mean().sqrt()) / size if size else 0.0
        run.found["passes"] = done
        return mean, done < self.samples
