"""The session of each viewer."""

from __future__ import annotations

import weakref
from typing import Any

from napari_cnnvis._napari.session.session import Session

__all__ = ["session_of"]

#: the layers of a viewer, and its session
_SESSIONS: list[tuple[weakref.ref[Any], weakref.ref[Session]]] = []


def session_of(viewer: Any) -> Session:
    """The session of a viewer; it is made if there is none."""
    layers = getattr(viewer.layers, "__wrapped__", viewer.layers)  # napari hands plugins proxies
    for known, session in list(_SESSIONS):
        alive = session()
        if alive is None or alive.closed or known() is None:
            _SESSIONS.remove((known, session))
        elif known() is layers:
            return alive
    made = Session(viewer)
    _SESSIONS.append((weakref.ref(layers), weakref.ref(made)))
    return made
