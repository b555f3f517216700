"""How to read a map, with its known weaknesses, in plain words."""

from __future__ import annotations

from napari_cnnvis.explain.record import DIFFERENCE
from napari_cnnvis.explain.registry import titled

__all__ = ["how_to_read"]

_DIFFERENCE = (
    "One map minus another, voxel by voxel, in the unit that both have.",
    "Maps of different methods or scores have different units; their difference means little.",
)
_NOT_PROOF = (
    "A map shows what the network responded to, not what is ill, and not that the network is right."
)


def how_to_read(title: str) -> tuple[str, ...]:
    """Paragraphs on the map of a method (by its title, such as "Grad-CAM"); the last holds for all."""
    method = titled(title)
    own = _DIFFERENCE if title == DIFFERENCE else () if method is None else method.reading
    return (*own, _NOT_PROOF)
