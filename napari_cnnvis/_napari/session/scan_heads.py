"""Which head each scan in the viewer has: found in it, or a mask of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_cnnvis._napari.layers.one_volume import shape_of
from napari_cnnvis._napari.layers.place import lies_on_grid, mask_on_grid
from napari_cnnvis._napari.layers.scans import layer_to_volume, snapshot
from napari_cnnvis._napari.session.shown_map import ShownMap
from napari_cnnvis._napari.widgets.jobs import JobRunner
from napari_cnnvis.errors import MethodError
from napari_cnnvis.reading import source_file
from napari_cnnvis.scan.volume import HEAD_FOUND

__all__ = ["HeadFile", "KnownHead", "ScanHeads"]

#: milliseconds of quiet after an edit of a mask before the head is looked at again
_QUIET = 200


@dataclass(frozen=True, eq=False)
class HeadFile:
    """A mask that was read from a file, on the voxels of its scan's layer."""

    name: str
    source: str
    mask: np.ndarray


@dataclass(frozen=True, eq=False)
class KnownHead:
    """The head of a scan layer as it is now, and a sentence about it."""

    scan: Any
    mask: np.ndarray
    text: str


class ScanHeads(QObject):
    """Knows the head mask that was chosen for a scan layer, if one was.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    shown : ShownMap
        Is told of the head that its scan has now.
    """

    #: the scan layer that has another head now: chosen, edited or lost
    changed = Signal(object)
    #: a `KnownHead` that was asked for
    known = Signal(object)
    #: a sentence for the user
    said = Signal(str)
    #: nothing is being read or looked at any more
    idle = Signal()

    def __init__(self, viewer: Any, shown: ShownMap, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._chosen: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self._followed: list[Any] = []
        self._waiting: list[tuple[str, Callable[..., Any], Callable[[Any], None]]] = []
        self._wanted: Any = None
        self._shown = shown
        self._layers = viewer.layers
        self._layers.events.removed.connect(self._on_removed)
        self.changed.connect(self._on_changed)
        self.jobs = JobRunner(self)
        self.jobs.failed.connect(lambda text: self.said.emit(f"⚠ {text}"))
        self.jobs.finished.connect(self._next)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_QUIET)
        self._timer.timeout.connect(self._look)

    def close(self) -> None:
        """Follow nothing any more."""
        self._layers.events.removed.disconnect(self._on_removed)
        self._timer.stop()
        self._waiting.clear()
        self.jobs.close()
        self._chosen.clear()
        self._follow()

    # --- the choice ------------------------------------------------------------------

    def choice(self, scan: Any) -> Any:
        """The Labels layer or `HeadFile` that was chosen for a scan; None if its head is found."""
        return None if scan is None else self._chosen.get(_itself(scan))

    def choose(self, scan: Any, choice: Any) -> None:
        """Take a Labels layer or a `HeadFile` for the head of a scan, or None to find it."""
        scan, choice = _itself(scan), _itself(choice)
        if self._chosen.get(scan) is choice:
            return
        if choice is None:
            del self._chosen[scan]
        else:
            self._chosen[scan] = choice
        self._follow()
        self.changed.emit(scan)

    def open(self, scan: Any, path: str, index: int | None = None) -> None:
        """Read a mask in the background and take it for the head of a scan."""
        taken, data = snapshot(scan), scan.data

        def job(progress: Any, cancel: Any) -> HeadFile:
            from napari_cnnvis.scan.files import read_volume

            carried = layer_to_volume(*taken).with_head(read_volume(path, index))
            return HeadFile(carried.head_name, carried.head_source, carried.head)

        def done(read: HeadFile) -> None:
            if scan.data is data:
                self.choose(scan, read)

        self._start(f"Reading {Path(path).name}", job, done)

    def named(self, scan: Any) -> tuple[str, str]:
        """Name and file of the head of a scan, as a map's record says them."""
        choice = self.choice(scan)
        if choice is None:
            return HEAD_FOUND, ""
        return choice.name, choice.source if isinstance(choice, HeadFile) else ""

    def restore(self, scan: Any, name: str, source: str) -> None:
        """Take the head that a map's record names for a scan; a file is read in the background.

        Raises
        ------
        MethodError
            If it was a Labels layer that is not there any more.
        """
        if (name, source) == self.named(scan):
            return
        if source:
            self.open(scan, *source_file(source))
        elif name == HEAD_FOUND:
            self.choose(scan, None)
        else:
            fitting = [layer for layer in self._layers if lies_on_grid(layer, scan)]
            named = [layer for layer in fitting if layer.name == name]
            if not named:
                raise MethodError(
                    f"The map's head mask '{name}' was a Labels layer; open it on the scan's grid, "
                    "under this name, then press the button again."
                )
            self.choose(scan, named[0])

    def lose(self, scan: Any, why: str) -> None:
        """Find the head of a scan again, and say why, if a mask was chosen for it."""
        if self.choice(scan) is not None:
            self.choose(scan, None)
            self.said.emit(f"{why} The head of '{scan.name}' is found in the scan again.")

    def snapshot(self, scan: Any) -> tuple[Any, dict[str, Any]]:
        """As `snapshot`, and with the head mask as it is now, if one was chosen."""
        data, attributes = snapshot(scan)
        return data, {**attributes, "head": self._carried(scan)}

    def _carried(self, scan: Any) -> dict[str, Any]:
        choice = self.choice(scan)
        if choice is None:
            return {}
        if isinstance(choice, HeadFile):
            mask, source = choice.mask, choice.source
            fits = mask.shape == shape_of(scan)
        else:
            mask, source = mask_on_grid(choice, scan), ""
            fits = mask is not None
        if not fits:
            self.lose(scan, f"The head mask '{choice.name}' is not on the scan's grid any more.")
            return {}
        return {"head": mask, "head_name": choice.name, "head_source": source}

    # --- what becomes of a mask ------------------------------------------------------

    def _follow(self) -> None:
        """Listen to edits of the Labels layers that are chosen, and of no others."""
        for layer in self._followed:
            for source in _edits(layer):
                source.disconnect(self._on_edit)
        chosen = {id(one): one for one in self._chosen.values() if not isinstance(one, HeadFile)}
        self._followed = list(chosen.values())
        for layer in self._followed:
            for source in _edits(layer):
                source.connect(self._on_edit)

    def _scans_with(self, layer: Any) -> list[Any]:
        return [scan for scan, choice in list(self._chosen.items()) if choice is layer]

    def _on_edit(self, event: Any) -> None:
        for scan in self._scans_with(event.source):
            self.changed.emit(scan)

    def _on_removed(self, event: Any) -> None:
        removed = _itself(event.value)
        for scan in self._scans_with(removed):
            self.lose(scan, f"The head mask '{removed.name}' was removed.")

    def _on_changed(self, scan: Any) -> None:
        if scan == self._shown.scan and self._shown.layer is not None:
            self.look(scan)

    # --- looking at a head -----------------------------------------------------------

    def look(self, scan: Any) -> None:
        """Find out in the background which voxels the head of a scan is, and tell by `known`."""
        self._wanted = scan
        self._timer.start()

    def _look(self) -> None:
        scan, self._wanted = self._wanted, None
        if scan is None or scan not in self._layers:
            return
        taken, data = self.snapshot(scan), scan.data

        def job(progress: Any, cancel: Any) -> KnownHead:
            from napari_cnnvis.scan.head import head_of

            volume = layer_to_volume(*taken)
            mask, own = head_of(volume), volume.head_name
            count = int(mask.sum())
            litres = count * float(np.prod(volume.spacing)) / 1e6
            where = own if own == HEAD_FOUND else f"the mask '{own}'"
            return KnownHead(scan, mask, f"Head: {count:,} voxels, {litres:.3g} l, {where}.")

        def done(known: KnownHead) -> None:
            if scan.data is data:
                if scan == self._shown.scan:
                    self._shown.take_head(known.mask)
                self.known.emit(known)

        self._start("Looking at the head", job, done)

    def _start(self, what: str, job: Callable[..., Any], done: Callable[[Any], None]) -> None:
        self._waiting.append((what, job, done))
        self._next()

    def _next(self) -> None:
        if self._waiting and not self.jobs.busy:
            self.jobs.start(*self._waiting.pop(0))
        elif not self.jobs.busy:
            self.idle.emit()


def _itself(layer: Any) -> Any:
    """The layer that a proxy stands for; napari hands plugins proxies."""
    return getattr(layer, "__wrapped__", layer)


def _edits(layer: Any) -> tuple[Any, ...]:
    events = layer.events
    return events.data, events.paint, events.labels_update
