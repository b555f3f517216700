"""The steps of a run that need no panel: run a request, find the head, say what came out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.models.settings import Recipe, remember
from napari_cnnvis.scan.volume import Volume

__all__ = [
    "BuiltHierarchy",
    "described",
    "head_or_none",
    "loaded_by",
    "numbered",
    "run_request",
    "scored",
    "summary_of",
]


@dataclass(frozen=True, eq=False)
class BuiltHierarchy:
    """Supervoxels that a run has built, and what they were built of."""

    data: Any
    head: np.ndarray | None
    hierarchy: Any

    def is_of(self, data: Any, head: np.ndarray | None) -> bool:
        """Whether it would be built again for this scan and this head mask of its own."""
        both = head is not None and self.head is not None
        same = np.array_equal(head, self.head) if both else head is self.head
        return data is self.data and bool(same)


class OpenedCheckpoints:
    """A `CheckpointCache` that is imported when it is first used."""

    def __init__(self) -> None:
        self._cache: Any = None

    @property
    def tried(self) -> Recipe:
        """How the last checkpoint was taken, whether it could be loaded or not."""
        return Recipe() if self._cache is None else self._cache.tried

    def load(self, *given: Any) -> Any:
        """See `CheckpointCache.load`."""
        from napari_cnnvis.models.cache import CheckpointCache

        self._cache = self._cache or CheckpointCache()
        return self._cache.load(*given)

    def clear(self) -> None:
        """Forget every network."""
        if self._cache is not None:
            self._cache.clear()


def made_in_python(model: Any) -> Any:
    """A model that belongs to no file, as a `LoadedCheckpoint`."""
    from napari_cnnvis.models.cache import LoadedCheckpoint
    from napari_cnnvis.models.doctor import report_on

    return LoadedCheckpoint("", Recipe(), model, report_on(None, model))


def loaded_by(
    cache: Any,
    paths: list[Path],
    recipe: Recipe | None,
    trust: bool,
    device: str,
    shape: Any,
    cancel: Any,
) -> Any:
    """Load a checkpoint of one file or several; what was entered for the first is remembered."""
    loaded = cache.load(paths, recipe, trust, device, shape, cancel)
    if recipe is not None or len(paths) > 1:
        remember(loaded.digest, loaded.recipe)
    return loaded


def scored(model: Any, volumes: Any) -> tuple[np.ndarray, tuple[int, ...], dict[str, None]]:
    """What a network says of a scan, the voxels of its input, and what is to be said about that."""
    conformed = model.conform(volumes)
    model.layers(conformed.data.shape)  # finds them here, not on the main thread
    notes = [*(note for v in volumes for note in v.notes), *conformed.notes]
    return model.predict(volumes), conformed.data.shape, dict.fromkeys(notes)


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
