"""Which panels of this plugin are open in a viewer, so that they can work together."""

from __future__ import annotations

import weakref
from typing import Any, TypeVar

__all__ = ["panel_of", "register", "unregister"]

Panel = TypeVar("Panel")
_OPEN: weakref.WeakSet[Any] = weakref.WeakSet()


def register(panel: Any, viewer: Any) -> None:
    """Note that a panel belongs to a viewer."""
    panel.layers_of_viewer = weakref.ref(_layers(viewer))
    _OPEN.add(panel)


def unregister(panel: Any) -> None:
    """Note that a panel was closed, even if something still holds it."""
    _OPEN.discard(panel)


def panel_of(viewer: Any, kind: type[Panel]) -> Panel | None:
    """The panel of a kind that is open in a viewer; the newest, or None."""
    layers = _layers(viewer)
    found = [p for p in _OPEN if isinstance(p, kind) and p.layers_of_viewer() is layers]
    return max(found, key=lambda p: p.opened, default=None)


def _layers(viewer: Any) -> Any:
    """The viewer's layer list itself; napari hands plugins proxies, a new one each time."""
    layers = viewer.layers
    return getattr(layers, "__wrapped__", layers)
