"""Sensitivity analysis on the 3D ultrametric contour map (SA-3DUCM, Yang et al. 2018)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_cnnvis.explain import common_parameters as common
from napari_cnnvis.explain.parameter import Baseline, parameter
from napari_cnnvis.explain.scoring.occluding_method import ON_BASELINES, OccludingMethod
from napari_cnnvis.progress import Progress
from napari_cnnvis.scan.volume import Scan, channels_of
from napari_cnnvis.ucm.options import FINEST

if TYPE_CHECKING:
    from napari_cnnvis.explain.attribution import Attribution
    from napari_cnnvis.models.model import Model
    from napari_cnnvis.ucm.hierarchy import Hierarchy

__all__ = ["Sensitivity", "sensitivity"]


@dataclass(frozen=True)
class Sensitivity(OccludingMethod):
    """See `sensitivity`."""

    key = "sensitivity"
    title = "UCM sensitivity"
    tip = (
        "How much the score drops when a supervoxel is replaced by the baseline. Only what "
        "a region can change is computed, where the network allows it; what the map says depends "
        "on the baseline."
    )
    reading = (
        "How much the score drops when the supervoxel that contains a voxel is replaced by the baseline, "
        "joined over several levels. Warm: the network needs this region for the class.",
        ON_BASELINES,
        "Two regions that say the same hide each other: either can go without a drop. What is spread "
        "over many small regions, such as thin cortex, shows little.",
        "A region's outline can stay visible when its inside is replaced; a margin of some millimetres "
        "takes it away, and marks what lies within it as well.",
        "A region's drop varies with where its outline happens to run; smoothing by about the size of the "
        "regions (12 mm) found simulated changes far better. The size of the drop finds what matters, "
        "its sign whether replacing it by the baseline speaks for or against the class.",
    )
    function = "sensitivity"
    takes_hierarchy = True
    place = 60

    baseline: tuple[Baseline, ...] = common.baseline()
    finest: int | None = parameter(
        None,
        "Regions",
        f"Number of regions on the finest level ({FINEST} is usual); more is slower and finer. A "
        "hierarchy of few levels, such as an atlas, is used as it is.",
        noun="number of regions",
        low=1,
        none="the hierarchy's own levels",
        option="regions",
    )
    margin: float = parameter(
        0.0,
        "Margin",
        "How far a region grows, within the head, before it is occluded, so that its outline does "
        "not stay visible. 0 is the published method; 6 mm found simulated atrophy better.",
        noun="margin",
        unit="mm",
        low=0,
    )
    quantity: str = common.quantity()
    score: str = common.score("probability", redraws=True)
    join: str = parameter(
        "mean",
        "Levels",
        "How the values of a voxel's regions on the levels are joined.",
        noun="a way to join levels",
        choices=common.JOINS,
        redraws=True,
    )
    level_weights: tuple[float, ...] | None = parameter(
        None,
        "Level weights",
        "How much each level counts, from the finest with most regions on.",
        noun="weight",
        low=0,
        redraws=True,
        none="all the same",
    )
    smooth: float = common.smooth()
    shown: str | None = common.shown()
    time_budget: float | None = common.time_budget()
    precision: str = common.precision()
    levels: tuple[int, ...] | None = parameter(
        None,
        "Numbers of regions",
        "Numbers of regions of the levels to use, one by one, instead of Regions.",
        noun="number of regions",
        low=1,
        none="the hierarchy's own levels",
        in_form=False,
        stored="level_counts",
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
        from napari_cnnvis.explain.scoring.region_run import run_regions
        from napari_cnnvis.ucm.build import build_hierarchy

        if hierarchy is None:
            hierarchy = build_hierarchy(channels_of(volume)[0], progress=progress, cancel=cancel)
        return run_regions(self, model, volume, hierarchy, target, progress, cancel)


def sensitivity(
    model: Model,
    volume: Scan,
    hierarchy: Hierarchy,
    target: int | str,
    *,
    baseline: Baseline | Sequence[Baseline] = "blur",
    quantity: str = "drop",
    score: str = "probability",
    levels: Sequence[int] | None = None,
    finest: int | None = None,
    batch_size: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    join: str = "mean",
    time_budget: float | None = None,
    engine: str = "auto",
    precision: str = "single",
    margin: float = 0.0,
    smooth: float = 0.0,
    shown: str | None = None,
    level_weights: Sequence[float] | None = None,
) -> Attribution:
    """How much the score of a class drops when a region of the hierarchy is occluded.

    ``map(v) = mean over levels l of delta(s_l(v))`` with s_l(v) the region of voxel v
    on level l and ``delta(s) = score(x) - score(x with s replaced by the baseline)``
    (SA-3DUCM, section 3.1 of arXiv:1803.02544, as a drop). Each distinct region is
    scored once, large regions first. Of the network only what a region can change is
    computed, exactly (see `napari_cnnvis.explain.scoring.incremental`).

    Parameters
    ----------
    model : Model
    volume : Volume, or a sequence with one for each input channel
        The scan.
    hierarchy : Hierarchy
        Of the same grid as `volume`.
    target : int or str
        The class to explain, by index or name.
    baseline : float, "blur", "border", "noise" or Volume, or several of them
        What an occluded voxel becomes: a number in the network's input units (0 is
        the reference's, and looks like fluid on T1), the scan blurred by 12 mm, the
        mean of the voxels around the region, noise, or another scan on the same grid
        ("what if this region looked like the average control?"). With several, the
        map is the mean over them; ``regions.disagreement`` says how much they differ.
    quantity : {"drop", "absolute", "probability"}
        "absolute" is the size of the drop: how much depends on a region, whether it
        speaks for or against the class; "probability" is the reference's formula: the mean score with the region
        occluded, low where the region supports the class.
    score : {"probability", "logit", "log_prob"}
    levels : sequence of int, optional
        Numbers of regions of the levels to use; ``hierarchy.levels`` by default.
    finest : int, optional
        Number of regions on the finest level, from which the coarser ones follow; a
        hierarchy that has no cuts but its own levels, such as an atlas, is used as it is.
    batch_size : int, optional
        Regions to score at once in full passes; chosen from the free memory by default.
    progress : callable, optional
        Called with a `Progress` after each batch, with the map so far.
    cancel : threading.Event, optional
        When set, the map so far is returned, marked partial.
    join : {"mean", "size-aware", "strongest"}
        How the levels are joined; see `RegionScores.map`.
    time_budget : float, optional
        Seconds of scoring after which the map so far is returned, marked partial.
    engine : {"auto", "incremental", "full"}
        "auto" computes only what changes where the network allows it and it is
        cheaper; the attribution's provenance and notes say what was done.
    margin : float
        Millimetres that a region grows by, within the head, before it is occluded; its
        drop still counts for the region alone. A supervoxel follows the edges of the scan,
        so that its outline can stay visible when only its inside is replaced; a margin
        of a few millimetres takes the outline away too.
    smooth : float
        Millimetres (full width at half maximum) by which the map is smoothed within the
        head at the end, so that the regions' outlines do not show.
    shown : str, optional
        One of several baselines, or "disagreement"; see `remap`.
    level_weights : sequence of float, optional
        See `remap`.
    precision : {"single", "half"}
        "half" scores regions in float16 (bfloat16 on a CPU); the difference measured
        on four regions is noted.

    Returns
    -------
    Attribution
        On the scan's grid, in units of the score; its ``regions`` hold what was scored.

    Raises
    ------
    MethodError
        If the hierarchy or a baseline is of another grid, or there is no such class or
        option.
    ComputeError
        If the network cannot run.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> hierarchy = cv.build_hierarchy(volume)
    >>> result = cv.sensitivity(model, volume, hierarchy, "lesion", baseline=["blur", "border"])
    >>> result.name
    'UCM sensitivity · lesion'
    >>> print(f"{result.data.max():.1f} of the probability depends on one place")
    0.7 of the probability depends on one place
    """
    from napari_cnnvis.explain.scoring.region_run import run_regions

    how = Sensitivity(
        baseline=baseline,  # type: ignore[arg-type]
        finest=finest,
        margin=margin,
        quantity=quantity,
        score=score,
        join=join,
        level_weights=level_weights,  # type: ignore[arg-type]
        smooth=smooth,
        shown=shown,
        time_budget=time_budget,
        precision=precision,
        levels=levels,  # type: ignore[arg-type]
    )
    return run_regions(how, model, volume, hierarchy, target, progress, cancel, engine, batch_size)
