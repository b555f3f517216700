"""Box occlusion (Zeiler and Fergus 2014; in 3D Korolev et al. 2017): a cube slides over the scan."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cnnvis.explain import common_parameters as common
from napari_cnnvis.explain.parameter import Baseline, parameter
from napari_cnnvis.explain.scoring.occluding_method import ON_BASELINES, OccludingMethod
from napari_cnnvis.progress import Progress
from napari_cnnvis.scan.volume import Scan

if TYPE_CHECKING:
    from napari_cnnvis.explain.attribution import Attribution
    from napari_cnnvis.models.model import Model
    from napari_cnnvis.ucm.hierarchy import Hierarchy

__all__ = ["BoxOcclusion", "box_sensitivity"]

_PLACES = {"head": "the head", "everywhere": "everywhere", "mask": "a mask given in Python"}


@dataclass(frozen=True)
class BoxOcclusion(OccludingMethod):
    """See `box_sensitivity`."""

    key = "box"
    title = "Box occlusion"
    tip = (
        "How much the score drops when a cube around each voxel is replaced by the baseline; slower "
        "than supervoxels, and blind to what is larger than the cube."
    )
    reading = (
        "How much the score drops when a cube around the voxel is replaced by the baseline.",
        ON_BASELINES,
        "Blind to what is larger than the cube; a cube cuts across anatomy, so that its edges are seen by "
        "the network as well.",
    )
    function = "box_sensitivity"
    place = 70

    baseline: tuple[Baseline, ...] = common.baseline()
    size: int = parameter(
        7,
        "Box side",
        "Side of the cube, on the network's grid.",
        noun="box size",
        unit="voxels",
        low=1,
    )
    stride: int = parameter(
        2,
        "Stride",
        "Distance between cubes; 1 takes 8 times as long as 2.",
        noun="stride",
        unit="voxels",
        low=1,
    )
    quantity: str = common.quantity()
    score: str = common.score("probability", redraws=True)
    smooth: float = common.smooth()
    shown: str | None = common.shown()
    time_budget: float | None = common.time_budget()
    precision: str = common.precision()
    inside: str = parameter(
        "head",
        "Boxes in",
        "Where the centres of cubes are.",
        noun="a place for boxes",
        choices=_PLACES,
        in_form=False,
    )

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
        from napari_cnnvis.explain.scoring.box_run import run_boxes

        return run_boxes(self, model, volume, target, progress, cancel)


def box_sensitivity(
    model: Model,
    volume: Scan,
    target: int | str,
    *,
    size: int = 7,
    stride: int = 2,
    baseline: Baseline | Sequence[Baseline] = "blur",
    quantity: str = "drop",
    score: str = "probability",
    inside: str | np.ndarray | None = "head",
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    time_budget: float | None = None,
    engine: str = "auto",
    precision: str = "single",
    batch_size: int | None = None,
    smooth: float = 0.0,
    shown: str | None = None,
) -> Attribution:
    """How much the score of a class drops when a cube of voxels is occluded.

    ``map(v) = score(x) - score(x with the cube around v replaced by the baseline)``.
    Korolev et al. (arXiv:1701.06643) take ``size=7, stride=1, baseline=0,
    quantity="probability"``.

    Parameters
    ----------
    model : Model
    volume : Volume, or a sequence with one for each input channel
        The scan.
    target : int or str
        The class to explain, by index or name.
    size : int
        Voxels along a side of the cube, on the model's grid.
    stride : int
        Voxels between the centres of neighbouring cubes.
    inside : "head", "everywhere", array of bool or None
        Where centres lie: inside the head, inside a mask of the scan's shape, or
        everywhere.
    baseline, quantity, score, smooth, shown, time_budget, precision
        As in `sensitivity`.
    progress, cancel, engine, batch_size
        As in `sensitivity`. Cubes on a coarse lattice are scored first.

    Returns
    -------
    Attribution
        On the scan's grid, in units of the score; its ``regions`` are `BoxScores`.

    Raises
    ------
    MethodError
        If there is no such class or option, or no voxel to occlude.
    ComputeError
        If the network cannot run.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> result = cv.box_sensitivity(model, volume, "lesion", size=5)
    >>> [int(i) for i in np.unravel_index(result.data.argmax(), result.data.shape)]
    [15, 13, 9]
    """
    from napari_cnnvis.explain.scoring.box_run import run_boxes

    place = "everywhere" if inside is None else inside if isinstance(inside, str) else "mask"
    mask = None if inside is None or isinstance(inside, str) else np.asarray(inside)
    how = BoxOcclusion(
        baseline=baseline,  # type: ignore[arg-type]
        size=size,
        stride=stride,
        quantity=quantity,
        score=score,
        smooth=smooth,
        shown=shown,
        time_budget=time_budget,
        precision=precision,
        inside=place,
    )
    return run_boxes(how, model, volume, target, progress, cancel, mask, engine, batch_size)
