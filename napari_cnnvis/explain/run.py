"""Run a request: one call for every method."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.layers.layer_maps import LayerMaps
from napari_cnnvis.explain.methods.box import box_sensitivity
from napari_cnnvis.explain.methods.cam import cam
from napari_cnnvis.explain.methods.gradient import gradient_maps
from napari_cnnvis.explain.methods.sensitivity import sensitivity
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.models.model import Model
from napari_cnnvis.progress import Progress
from napari_cnnvis.scan.volume import Scan, channels_of
from napari_cnnvis.ucm.build import build_hierarchy, default_counts
from napari_cnnvis.ucm.hierarchy import Hierarchy

__all__ = ["explain"]


def explain(
    model: Model,
    volume: Scan,
    request: ExplainRequest,
    hierarchy: Hierarchy | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
) -> Attribution | LayerMaps:
    """Run what a request asks for.

    Parameters
    ----------
    model : Model
    volume : Volume, or a sequence with one for each input channel
    request : ExplainRequest
    hierarchy : Hierarchy, optional
        For sensitivity; built from the volume if not given. One that has no cuts but
        its own levels, such as an atlas, is used as it is, whatever `request.finest`.
    progress, cancel
        As in `sensitivity`.

    Returns
    -------
    Attribution, or LayerMaps for Grad-CAM and its variants of layer "all"

    Raises
    ------
    CnnVisError
        See `cam`, `grad_cam`, `sensitivity`, `box_sensitivity` and `build_hierarchy`.
    """
    if request.method == "sensitivity":
        if hierarchy is None:
            hierarchy = build_hierarchy(channels_of(volume)[0], progress=progress, cancel=cancel)
        levels = None
        if request.finest is not None:
            levels = _counts(hierarchy, request.finest)
        return sensitivity(
            model,
            volume,
            hierarchy,
            request.target,
            request.baseline,
            request.quantity,
            request.score,
            levels,
            progress=progress,
            cancel=cancel,
            join=request.join,
            margin=request.margin,
            smooth=request.smooth,
            time_budget=request.time_budget,
            precision=request.precision,
        )
    if request.method == "box":
        return box_sensitivity(
            model,
            volume,
            request.target,
            request.size,
            request.stride,
            request.baseline,
            request.quantity,
            request.score,
            progress=progress,
            cancel=cancel,
            smooth=request.smooth,
            time_budget=request.time_budget,
            precision=request.precision,
        )
    if request.method == "cam":
        return cam(model, volume, request.target, request.alignment)
    return gradient_maps(
        request.method,
        model,
        volume,
        request.target,
        request.layer,
        request.relu,
        request.score,
        request.alignment,
    )


def _counts(hierarchy: Hierarchy, finest: int) -> list[int] | None:
    """Numbers of regions of the levels to score; None for the hierarchy's own."""
    if len(np.unique(hierarchy.altitudes)) <= len(hierarchy.levels):
        return None
    coarsest = int((hierarchy.parents == np.arange(hierarchy.n_nodes)).sum())
    counts = {max(count, coarsest) for count in default_counts(hierarchy.n_leaves, finest)}
    return sorted(counts, reverse=True)
