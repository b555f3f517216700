"""The steps of a run that need no panel: run a request, find the head, say what came out."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.scan.volume import Volume

__all__ = ["described", "head_or_none", "numbered", "run_request", "summary_of"]


def run_request(
    model: Any, volumes: Any, request: ExplainRequest, hierarchy: Any, progress: Any, cancel: Any
) -> Any:
    """Run so that more than one view can be shown at once, where memory allows: all layers."""
    from napari_cnnvis.explain.run import explain
    from napari_cnnvis.models.execution import OutOfMemory

    how: dict[str, Any] = {"hierarchy": hierarchy, "progress": progress, "cancel": cancel}
    wide = ExplainRequest(request.how.widened(), request.target)
    if wide != request:
        try:
            return explain(model, volumes, wide, **how)
        except OutOfMemory:
            pass
    return explain(model, volumes, request, **how)


def numbered(request: ExplainRequest, model: Any) -> ExplainRequest:
    """The request with its target as a number, as the panel's form says it."""
    if isinstance(request.target, str) and request.target in model.class_names:
        return request.replaced(target=model.class_names.index(request.target))
    return request


def described(request: ExplainRequest, model: Any) -> str:
    """What a run does, in a few words."""
    target, names = request.target, model.class_names
    known = isinstance(target, int) and 0 <= target < len(names)
    return f"{request.title} of {names[target] if known else target}"


def head_or_none(volume: Volume) -> np.ndarray | None:
    """The head's voxels, or None for a volume that has no head."""
    from napari_cnnvis.scan.head import head_of

    try:
        return head_of(volume)
    except CnnVisError:  # a constant volume has none
        return None


def summary_of(attribution: Any, head: np.ndarray | None) -> str:
    """What the status line says of a map."""
    data = attribution.data
    low, high = float(data.min()), float(data.max())
    text = f"{attribution.name}: {low:.3g} to {high:.3g}. "
    total = float(np.abs(data).sum())
    if head is not None and total > 0:
        outside = float(np.abs(data[~head]).sum()) / total
        if outside >= 0.005:
            text += f"{outside:.0%} of it is outside the head. "
    if low < 0:
        text += "Warm colours support the class, cold ones speak against it. "
    if attribution.partial:
        text += "Cancelled: regions that were not reached do not count. "
    return text + " ".join(attribution.notes)
