"""Sensitivity analysis on the 3D ultrametric contour map (SA-3DUCM, Yang et al. 2018)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.attribution import Attribution, provenance_of
from napari_cnnvis.explain.baselines import make_baseline
from napari_cnnvis.explain.options import QUANTITIES, SCORES, check_baseline, check_choice
from napari_cnnvis.explain.region_scorer import FullPassScorer
from napari_cnnvis.explain.region_scores import RegionScores
from napari_cnnvis.models.model import Model
from napari_cnnvis.progress import Progress
from napari_cnnvis.ucm.hierarchy import Hierarchy
from napari_cnnvis.volume import Volume

__all__ = ["sensitivity"]


def sensitivity(
    model: Model,
    volume: Volume,
    hierarchy: Hierarchy,
    target: int | str,
    baseline: float | str = "blur",
    quantity: str = "drop",
    score: str = "probability",
    levels: Sequence[int] | None = None,
    batch_size: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
) -> Attribution:
    """How much the score of a class drops when a region of the hierarchy is occluded.

    ``map(v) = mean over levels l of delta(s_l(v))`` with s_l(v) the region of voxel v
    on level l and ``delta(s) = score(x) - score(x with s replaced by the baseline)``
    (SA-3DUCM, section 3.1 of arXiv:1803.02544, as a drop). Each distinct region is
    scored once, the largest first.

    Parameters
    ----------
    model : Model
    volume : Volume
        The scan.
    hierarchy : Hierarchy
        Of the same grid as `volume`.
    target : int or str
        The class to explain, by index or name.
    baseline : float or "blur"
        What an occluded voxel becomes: a number in the network's input units (0 is
        the reference's, and looks like fluid on T1), or the scan blurred by 12 mm.
    quantity : {"drop", "probability"}
        "probability" is the reference's formula: the mean score with the region
        occluded, low where the region supports the class.
    score : {"probability", "logit", "log_prob"}
    levels : sequence of int, optional
        Numbers of regions of the levels to use; ``hierarchy.levels`` by default.
    batch_size : int, optional
        Regions to score at once; chosen from the free memory by default.
    progress : callable, optional
        Called with a `Progress` after each batch, with the map so far.
    cancel : threading.Event, optional
        When set, the map so far is returned, marked partial.

    Returns
    -------
    Attribution
        On the scan's grid, in units of the score; its ``regions`` hold what was scored.

    Raises
    ------
    MethodError
        If the hierarchy is of another grid, or there is no such class or option.
    ComputeError
        If the network cannot run.
    """
    check_choice(score, SCORES, "a score")
    check_choice(quantity, QUANTITIES, "a quantity")
    baseline = check_baseline(baseline)
    index = model.class_index(target)
    if hierarchy.leaves.shape != volume.shape:
        raise MethodError(
            f"The hierarchy has {hierarchy.leaves.shape} voxels, but the scan {volume.shape}; "
            "build it on this scan."
        )
    node_of_leaf = (
        hierarchy.levels if levels is None else np.array([hierarchy.cut_nodes(n) for n in levels])
    )
    if len(node_of_leaf) == 0:
        raise MethodError("The hierarchy has no levels; give levels=[300, 75, 30] or the like.")
    conformed = model.conform(volume)
    clean = model.tensor(conformed.data)
    filled = model.tensor(make_baseline(conformed.data, baseline, conformed.spacing))
    voxels, first, last = hierarchy.voxels(conformed.labels(hierarchy.leaves))
    nodes = np.unique(node_of_leaf)
    seen = last[nodes] > first[nodes]
    clean_logits = model.logits(clean)[0].float().cpu().numpy()
    occluded = np.full((hierarchy.n_nodes, len(clean_logits)), np.nan, dtype=np.float32)
    occluded[nodes[~seen]] = clean_logits  # outside what the network sees: nothing changes
    nodes = nodes[seen]
    nodes = nodes[np.argsort(first[nodes] - last[nodes], kind="stable")]

    provenance = provenance_of(
        model,
        volume,
        conformed,
        "UCM sensitivity",
        index,
        baseline=baseline,
        quantity=quantity,
        score=score,
        levels=[len(np.unique(level)) for level in node_of_leaf],
        regions_scored=len(nodes),
    )

    def attribution(partial: bool) -> Attribution:
        scores = RegionScores(hierarchy, node_of_leaf, clean_logits, occluded.copy())
        return Attribution(
            scores.map(index, quantity, score),
            volume.affine,
            provenance,
            volume,
            partial=partial,
            notes=conformed.notes,
            regions=scores,
        )

    done = 0
    scorer = FullPassScorer(model, clean, filled, batch_size)
    batches = scorer.score([voxels[first[n] : last[n]] for n in nodes])
    while done < len(nodes):
        if cancel is not None and cancel.is_set():
            break
        logits = next(batches)
        occluded[nodes[done : done + len(logits)]] = logits
        done += len(logits)
        if progress is not None:
            progress(Progress(done, len(nodes), "scoring regions", attribution(partial=True)))
    return attribution(partial=done < len(nodes))
