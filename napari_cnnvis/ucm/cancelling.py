"""Stop building supervoxels when asked to."""

from __future__ import annotations

import threading

from napari_cnnvis.errors import VolumeError

__all__ = ["stop_if_cancelled"]


def stop_if_cancelled(cancel: threading.Event | None) -> None:
    """Raise `VolumeError` where `cancel` is set."""
    if cancel is not None and cancel.is_set():
        raise VolumeError("Building the supervoxels was cancelled.")
