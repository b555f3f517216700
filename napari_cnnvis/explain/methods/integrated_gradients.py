"""Integrated Gradients (Sundararajan et al. 2017), over one baseline or several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_cnnvis.explain import common_parameters as common
from napari_cnnvis.explain.inputs.input_method import NOISY, InputMethod
from napari_cnnvis.explain.parameter import Baseline, parameter
from napari_cnnvis.explain.scoring.occluding_method import ON_BASELINES

if TYPE_CHECKING:
    from torch import Tensor

    from napari_cnnvis.explain.inputs.input_run import InputRun

__all__ = ["IntegratedGradients"]

#: intervals of the path that are tried first; each further try halves them
_FIRST = 8
#: error of the sum, relative to the score's difference, at which no more are tried
_COMPLETE = 0.01


@dataclass(frozen=True)
class IntegratedGradients(InputMethod):
    """``(x - b) * mean over alpha from 0 to 1 of d score / d x at b + alpha (x - b)`` (arXiv:1703.01365).

    The values add up to ``score(x) - score(b)``; the path is cut ever finer until they do to
    1 %, or `steps` passes are done, and the record says how far off they are. Of several
    baselines b the mean is taken (expected gradients, Erion et al. 2021, over these baselines).

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> map = cv.explain(model, volume, "integrated-gradients", target="lesion", baseline=0)
    >>> abs(map.record.values["completeness_error"]) < 0.01
    True
    """

    key = "integrated-gradients"
    title = "Integrated Gradients"
    tip = (
        "Shares the difference in score between the scan and a baseline out among the voxels, along the "
        "straight path from one to the other."
    )
    reading = (
        "What each voxel contributes to the score's difference between the scan and the baseline; the values "
        "add up to it. Warm: it speaks for the class.",
        ON_BASELINES,
        "On the way to the baseline the network sees mixtures that are no scans.",
        NOISY,
    )
    place = 78

    baseline: tuple[Baseline, ...] = common.baseline()
    steps: int = parameter(
        64,
        "Steps",
        "Passes for each baseline at most; fewer are taken where the values already add up to 1 %.",
        noun="number of steps",
        low=_FIRST + 1,
    )

    def values(self, run: InputRun) -> tuple[Tensor, bool]:
        import torch

        from napari_cnnvis.explain.scoring.occluded_scan import OccludedScan

        images = list(_images(OccludedScan(run.model, run.volume, self.baseline), run))
        total, errors, passes = torch.zeros_like(run.x), [], 0
        for n, image in enumerate(images):
            path = _Path(run, image, n, len(images), total / max(n, 1))
            path.refine(self.steps)
            total += path.values()
            passes += path.passes
            errors.append(path.error())
            if run.cancelled:
                break
        run.found["completeness_error"] = max(errors, key=abs)
        run.found["passes"] = passes
        if abs(run.found["completeness_error"]) > _COMPLETE and not run.cancelled:
            run.notes.append(
                f"The values add up to the score's difference with an error of "
                f"{abs(run.found['completeness_error']):.0%}; more steps make it smaller."
            )
        return total / len(errors), run.cancelled


def _images(scan: object, run: InputRun) -> Iterator[Tensor]:
    """The input with all that a baseline replaces replaced."""
    import numpy as np

    for baseline in scan.baselines:  # type: ignore[attr-defined]
        image = run.conformed.channels.copy()
        voxels = np.flatnonzero(baseline.replaces)
        image.reshape(len(image), -1)[:, voxels] = baseline.values(voxels)
        yield run.model.tensor(image)


class _Path:
    """The gradients on the way from a baseline to the scan, at points that get ever closer."""

    def __init__(self, run: InputRun, image: Tensor, place: int, n: int, before: Tensor) -> None:
        self._run, self._image, self._place, self._n, self._before = run, image, place, n, before
        self._difference = run.x - image
        self.passes = 0
        self._sum = self._mean = run.x * 0
        self._scores = [0.0, 0.0]

    def refine(self, most: int) -> None:
        """Halve the intervals until the values add up, or `most` passes are done."""
        ends = [self._at(alpha) for alpha in (0.0, 1.0)]
        self._scores = [score for score, _ in ends]
        self._sum = (ends[0][1] + ends[1][1]) / 2
        self._mean = self._sum
        points = [k / _FIRST for k in range(1, _FIRST)]
        intervals = _FIRST
        while True:
            fresh = self._sum
            for done, alpha in enumerate(points, 1):
                fresh = fresh + self._at(alpha)[1]
                if self._run.cancelled:
                    return
                so_far = self._so_far(fresh / (done + 1))
                self._run.tell(self._place * most + self.passes, self._n * most, so_far)
            self._sum, self._mean = fresh, fresh / intervals
            if abs(self.error()) <= _COMPLETE or self.passes + intervals > most:
                return
            points = [(k + 0.5) / intervals for k in range(intervals)]
            intervals *= 2

    def values(self) -> Tensor:
        """What each voxel of the input contributes."""
        return self._difference * self._mean

    def error(self) -> float:
        """Of their sum, relative to the difference between the scores."""
        difference = self._scores[1] - self._scores[0]
        off = float(self.values().double().sum()) - difference
        return off / difference if difference else off

    def _so_far(self, mean: Tensor) -> Tensor:
        values = self._difference * mean
        return (self._before * self._place + values) / (self._place + 1)

    def _at(self, alpha: float) -> tuple[float, Tensor]:
        self.passes += 1
        x = self._image + alpha * self._difference
        return self._run.gradient(self._run.model.arranged(x))
