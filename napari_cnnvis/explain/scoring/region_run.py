"""Sensitivity on the regions of a hierarchy: score each with it occluded, and map the drops."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.flat_maps import why_occlusions_are_flat
from napari_cnnvis.explain.record import Record
from napari_cnnvis.explain.remap import remapped
from napari_cnnvis.explain.scoring.margins import with_margin
from napari_cnnvis.explain.scoring.occluded_scan import Limits, OccludedScan
from napari_cnnvis.explain.scoring.occlusions import RegionOcclusions
from napari_cnnvis.explain.scoring.region_scores import RegionScores
from napari_cnnvis.models.model import Model
from napari_cnnvis.progress import Progress
from napari_cnnvis.scan.smoothing import smoothed
from napari_cnnvis.scan.volume import Scan, channels_of
from napari_cnnvis.ucm.build import default_counts
from napari_cnnvis.ucm.hierarchy import Hierarchy

__all__ = ["level_counts", "run_regions"]


def level_counts(hierarchy: Hierarchy, finest: int) -> list[int] | None:
    """Numbers of regions of the levels to score; None for the hierarchy's own.

    A hierarchy that has no cuts but its own levels, such as an atlas, is used as it is.
    """
    if len(np.unique(hierarchy.altitudes)) <= len(hierarchy.levels):
        return None
    coarsest = int((hierarchy.parents == np.arange(hierarchy.n_nodes)).sum())
    counts = {max(count, coarsest) for count in default_counts(hierarchy.n_leaves, finest)}
    return sorted(counts, reverse=True)


def run_regions(
    how: Any,
    model: Model,
    volume: Scan,
    hierarchy: Hierarchy,
    target: int | str,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    engine: str = "auto",
    batch_size: int | None = None,
) -> Attribution:
    """See `napari_cnnvis.sensitivity`; `how` has its parameters."""
    limits = Limits(progress, cancel, how.time_budget)
    scan = OccludedScan(model, volume, how.baseline)
    index = model.class_index(target)
    reference = channels_of(volume)[0]
    if hierarchy.leaves.shape != reference.shape:
        raise MethodError(
            f"The hierarchy has {hierarchy.leaves.shape} voxels, but the scan {reference.shape}; "
            "build it on this scan."
        )
    if how.levels is not None:
        counts: Sequence[int] | None = how.levels
    else:
        counts = None if how.finest is None else level_counts(hierarchy, how.finest)
    node_of_leaf = (
        hierarchy.levels if counts is None else np.array([hierarchy.cut_nodes(n) for n in counts])
    )
    if len(node_of_leaf) == 0:
        raise MethodError("The hierarchy has no levels; give levels=[300, 75, 30] or the like.")
    conformed = scan.conformed
    leaves = conformed.labels(hierarchy.leaves)
    voxels, first, last = hierarchy.voxels(leaves)
    nodes = np.unique(node_of_leaf)
    regions = voxels, first[nodes], last[nodes]
    if how.margin > 0:
        regions = with_margin(*regions, how.margin, conformed.spacing, leaves > 0)
    occlusions = RegionOcclusions(*regions, scan.baselines, conformed.data.shape)
    scorer, report = scan.scorer(occlusions, engine, how.precision, batch_size)
    shape = (len(scan.names), hierarchy.n_nodes, len(scorer.clean_logits))
    occluded = np.full(shape, np.nan, dtype=np.float32)
    # regions outside what the network sees, or that are as the baseline, change nothing
    occluded[:, nodes] = scorer.clean_logits
    occluded[occlusions.baseline, nodes[occlusions.region]] = np.nan

    record = Record.of_run(
        how,
        model,
        volume,
        conformed,
        index,
        levels=[len(np.unique(level)) for level in node_of_leaf],
        hierarchy=hierarchy.origin,
        regions_scored=len(occlusions.boxes),
        engine=report.to_dict(),
    )

    def so_far(partial: bool = True) -> Callable[[], Attribution]:
        kept = occluded.copy()

        def make() -> Attribution:
            scores = RegionScores(
                scorer.clean_logits, kept, scan.names, model.outputs, hierarchy, node_of_leaf
            )
            data = smoothed(
                scores.map(index, how.quantity, how.score, join=how.join),
                scores.covered(),
                reference.spacing,
                how.smooth,
            )
            flat = why_occlusions_are_flat(
                data, kept, scorer.clean_logits, len(occlusions.boxes), how.score
            )
            return Attribution(
                data,
                reference.affine,
                record,
                reference,
                partial=partial,
                notes=(*conformed.notes, report.text, *flat),
                regions=scores,
            )

        return make

    done, total = 0, len(occlusions.boxes)
    for members, logits in limits.batches(
        scorer.score(occlusions), total, "scoring regions", so_far
    ):
        occluded[occlusions.baseline[members], nodes[occlusions.region[members]]] = logits
        done += len(members)
    made = so_far(partial=done < total)()
    if how.shown is None and how.level_weights is None:
        return made
    return remapped(made, how, index)
