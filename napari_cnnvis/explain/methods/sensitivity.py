"""Sensitivity analysis on the 3D ultrametric contour map (SA-3DUCM, Yang et al. 2018)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.attribution import Attribution, provenance_of
from napari_cnnvis.explain.request import (
    JOINS,
    QUANTITIES,
    SCORES,
    Baseline,
    check_choice,
    check_margin,
)
from napari_cnnvis.explain.scoring.margins import with_margin
from napari_cnnvis.explain.scoring.occluded_scan import Limits, OccludedScan
from napari_cnnvis.explain.scoring.occlusions import RegionOcclusions
from napari_cnnvis.explain.scoring.region_scores import RegionScores
from napari_cnnvis.models.model import Model
from napari_cnnvis.progress import Progress
from napari_cnnvis.scan.smoothing import smoothed
from napari_cnnvis.scan.volume import Scan, channels_of
from napari_cnnvis.ucm.hierarchy import Hierarchy

__all__ = ["sensitivity"]


def sensitivity(
    model: Model,
    volume: Scan,
    hierarchy: Hierarchy,
    target: int | str,
    baseline: Baseline | Sequence[Baseline] = "blur",
    quantity: str = "drop",
    score: str = "probability",
    levels: Sequence[int] | None = None,
    batch_size: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    join: str = "mean",
    time_budget: float | None = None,
    engine: str = "auto",
    precision: str = "single",
    *,
    margin: float = 0.0,
    smooth: float = 0.0,
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
        map is the mean over them; ``regions.disagreement`` says how far they differ.
    quantity : {"drop", "absolute", "probability"}
        "absolute" is the size of the drop: how much depends on a region, whether it
        speaks for or against the class; "probability" is the reference's formula: the mean score with the region
        occluded, low where the region supports the class.
    score : {"probability", "logit", "log_prob"}
    levels : sequence of int, optional
        Numbers of regions of the levels to use; ``hierarchy.levels`` by default.
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
    """
    check_choice(score, SCORES, "a score")
    check_choice(quantity, QUANTITIES, "a quantity")
    check_choice(join, JOINS, "a way to join levels")
    check_margin(margin)
    check_margin(smooth, "smoothing")
    limits = Limits(progress, cancel, time_budget)
    scan = OccludedScan(model, volume, baseline)
    index = model.class_index(target)
    reference = channels_of(volume)[0]
    if hierarchy.leaves.shape != reference.shape:
        raise MethodError(
            f"The hierarchy has {hierarchy.leaves.shape} voxels, but the scan {reference.shape}; "
            "build it on this scan."
        )
    node_of_leaf = (
        hierarchy.levels if levels is None else np.array([hierarchy.cut_nodes(n) for n in levels])
    )
    if len(node_of_leaf) == 0:
        raise MethodError("The hierarchy has no levels; give levels=[300, 75, 30] or the like.")
    conformed = scan.conformed
    leaves = conformed.labels(hierarchy.leaves)
    voxels, first, last = hierarchy.voxels(leaves)
    nodes = np.unique(node_of_leaf)
    regions = voxels, first[nodes], last[nodes]
    if margin > 0:
        regions = with_margin(*regions, margin, conformed.spacing, leaves > 0)
    occlusions = RegionOcclusions(*regions, scan.baselines, conformed.data.shape)
    scorer, report = scan.scorer(occlusions, engine, precision, batch_size)
    shape = (len(scan.names), hierarchy.n_nodes, len(scorer.clean_logits))
    occluded = np.full(shape, np.nan, dtype=np.float32)
    # regions outside what the network sees, or that are as the baseline, change nothing
    occluded[:, nodes] = scorer.clean_logits
    occluded[occlusions.baseline, nodes[occlusions.region]] = np.nan

    provenance = provenance_of(
        model,
        volume,
        conformed,
        "UCM sensitivity",
        index,
        baseline=list(scan.names),
        quantity=quantity,
        score=model.outputs.score_name(score),
        join=join,
        margin=float(margin),
        precision=precision,
        smooth=float(smooth),
        levels=[len(np.unique(level)) for level in node_of_leaf],
        level_counts=None if levels is None else [int(n) for n in levels],
        hierarchy=hierarchy.origin,
        baseline_sources=scan.sources,
        regions_scored=len(occlusions.boxes),
        engine=report.to_dict(),
    )

    def so_far(partial: bool = True) -> Callable[[], Attribution]:
        kept = occluded.copy()

        def make() -> Attribution:
            scores = RegionScores(
                scorer.clean_logits, kept, scan.names, model.outputs, hierarchy, node_of_leaf
            )
            return Attribution(
                smoothed(
                    scores.map(index, quantity, score, join=join),
                    scores.covered(),
                    reference.spacing,
                    smooth,
                ),
                reference.affine,
                provenance,
                reference,
                partial=partial,
                notes=(*conformed.notes, report.text),
                regions=scores,
            )

        return make

    done, total = 0, len(occlusions.boxes)
    for members, logits in limits.batches(
        scorer.score(occlusions), total, "scoring regions", so_far
    ):
        occluded[occlusions.baseline[members], nodes[occlusions.region[members]]] = logits
        done += len(members)
    return so_far(partial=done < total)()
