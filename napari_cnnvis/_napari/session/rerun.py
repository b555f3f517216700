"""What it takes to run a map's method again: its scan, its network and its request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_cnnvis._napari.widgets.layer_picker import is_scan
from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.models.settings import Recipe
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.volume import HEAD_FOUND

__all__ = ["NetworkMissing", "Rerun", "plan_rerun"]


class NetworkMissing(MethodError):
    """The map's network is neither loaded nor in a file that is still there."""


@dataclass(frozen=True, eq=False)
class Rerun:
    """The layers, the request, and the checkpoint to load; no path if it is loaded already.

    `head` is the name and the file of the scan's head mask.
    """

    scan: Any
    channels: tuple[Any, ...]
    request: ExplainRequest
    path: str | None
    recipe: Recipe
    head: tuple[str, str]

    def setting_up(self, loaded: Any) -> Callable[..., Any]:
        """A job that gives the loaded network the settings that it had for the map."""
        return lambda progress, cancel: loaded.with_recipe(self.recipe)


def plan_rerun(record: dict[str, Any], layers: Iterable[Any], loaded: Any) -> Rerun:
    """How to make a map again from its record.

    Parameters
    ----------
    record : dict
        The map's provenance.
    layers : iterable of layers
        Those in the viewer.
    loaded : LoadedCheckpoint or None
        The network that is loaded now.

    Raises
    ------
    MethodError
        If the record does not say what to run, or the scan is not there.
    NetworkMissing
        If the network is not there.
    """
    from napari_cnnvis.explain.record import Record

    known = Record.read(record)
    request, record = known.request(), dict(known.values)
    wanted, place = record.get("model") or {}, record.get("scan") or {}
    names = [one.get("name") for one in (place, *place.get("other_channels", ()))]
    if not wanted or not names[0]:
        raise MethodError(
            "The map's record does not say which scan and network it belongs to; run the method again in "
            "the panel Explain CNN."
        )
    there = {layer.name: layer for layer in layers if is_scan(layer)}
    missing = [name for name in names if name not in there]
    if missing:
        raise MethodError(f"Open the map's scan '{missing[0]}' first.")
    scan, *channels = (there[name] for name in names)
    head = place.get("head", HEAD_FOUND), place.get("head_source", "")
    recipe = Recipe(
        wanted.get("arch") or "",
        tuple(wanted.get("names") or ()),
        wanted.get("output") or "",
        InputSpec(**wanted["input"]) if "input" in wanted else None,
        scores=wanted.get("scores") or "",
        extra=wanted.get("extra") or {},
        more_files=tuple(wanted.get("more_files") or ()),
    )
    if loaded is not None and loaded.model.weights_hash() == wanted.get("weights_sha256"):
        return Rerun(scan, tuple(channels), request, None, recipe, head)
    path = wanted.get("path")
    if not path or not all(Path(one).exists() for one in (path, *recipe.more_files)):
        raise NetworkMissing(
            "The map's network was not loaded from a file that is still there; load it, then press "
            "the button again."
        )
    return Rerun(scan, tuple(channels), request, path, recipe, head)
