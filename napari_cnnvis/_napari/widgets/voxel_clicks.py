"""Clicks on voxels of a layer, in 2D slices and in 3D."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakMethod

import numpy as np

from napari_cnnvis._napari.layers.one_volume import shape_of

__all__ = ["VoxelClicks", "voxels_under"]

#: pixels that the mouse may move between press and release
_STILL = 4


class VoxelClicks:
    """Calls a bound method with the event of each plain left click on the canvas.

    Drags, and clicks while the active layer's tool is another than pan and zoom,
    are left alone. The method's owner is not kept alive.
    """

    def __init__(self, viewer: Any, clicked: Callable[[Any], None]) -> None:
        self._callbacks = viewer.mouse_drag_callbacks
        self._clicked = WeakMethod(clicked)
        self._listener = self._listen
        self.start()

    def start(self) -> None:
        """Listen, if it does not yet."""
        if self._listener not in self._callbacks:
            self._callbacks.append(self._listener)

    def stop(self) -> None:
        """Listen no longer."""
        if self._listener in self._callbacks:
            self._callbacks.remove(self._listener)

    def _listen(self, viewer: Any, event: Any) -> Iterator[None]:
        active = viewer.layers.selection.active
        mode = "pan_zoom" if active is None else str(active.mode)
        if event.button != 1 or event.modifiers or mode != "pan_zoom":
            return
        began = np.array(event.pos)
        still = True
        yield
        while event.type == "mouse_move":
            still = still and np.abs(np.array(event.pos) - began).max() <= _STILL
            yield
        clicked = self._clicked()
        if still and clicked is not None:
            clicked(event)


def voxels_under(layer: Any, event: Any) -> np.ndarray:
    """The voxels of a 3D layer at a click: one in a slice, those along the line of sight in 3D.

    Returns
    -------
    array of int, shape (n, 3)
        Inside the layer; from the viewer away.
    """
    shape = np.array(shape_of(layer))
    position = np.array(layer.world_to_data(event.position))[-3:]
    if len(event.dims_displayed) < 3:
        voxels = np.round(position).astype(int)[None]
    else:
        ahead = np.array(event.position) + np.array(event.view_direction)
        direction = np.array(layer.world_to_data(ahead))[-3:] - position
        direction /= np.linalg.norm(direction)
        reach = np.linalg.norm(shape) + np.linalg.norm(position - shape / 2)
        steps = np.arange(-reach, reach, 0.5)
        voxels = np.round(position + steps[:, None] * direction).astype(int)
    return voxels[((voxels >= 0) & (voxels < shape)).all(axis=1)]
