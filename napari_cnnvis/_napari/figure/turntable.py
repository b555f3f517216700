"""A movie all around the head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_cnnvis._napari.figure.camera import (
    CameraState,
    ScanAxes,
    camera_of,
    linear_of,
    shown_axes,
)
from napari_cnnvis._napari.figure.capture import canvas_pixels, turned
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.writing import atomic_path, check_output

__all__ = ["Turntable"]

_MOVIES = (".mp4", ".mov", ".avi", ".mkv")
_PER_SECOND = 20


class Turntable(QObject):
    """Turns the camera once about the head's long axis, a frame each time the window is idle.

    Parameters
    ----------
    viewer : napari.viewer.Viewer

    Signals
    -------
    advanced(int, int)
        Frames done, of how many.
    ended(str)
        What was written, or "" if it was stopped.
    failed(str)
        Plain words.
    """

    advanced = Signal(int, int)
    ended = Signal(str)
    failed = Signal(str)

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._advance)
        self._before: CameraState | None = None

    @property
    def busy(self) -> bool:
        """True while it turns."""
        return self._before is not None

    def start(self, layer: Any, path: str | Path, frames: int, background: str) -> None:
        """Write ``.gif``, a movie (``.mp4``, ...), or without an ending a folder of PNG files.

        Raises
        ------
        CnnVisError
            If the ending is another, there is no such folder, or a movie needs a program
            that is not installed.
        """
        path = Path(path)
        if self.busy:
            return
        if path.suffix.lower() not in (*_MOVIES, ".gif", ""):
            raise CnnVisError(
                f"A turntable cannot be written as {path.name}; use .mp4, .mov, .avi, .mkv or .gif, "
                "or a name without an ending for a folder of PNG files."
            )
        if path.suffix == "" and path.is_dir():
            if any(path.iterdir()):
                raise CnnVisError(f"The folder {path} already contains files; choose another name.")
        else:
            check_output(path, overwrite=True)  # the dialog has asked
        self._path, self._frames, self._background = path, frames, background
        self._axis = (linear_of(layer) @ ScanAxes.of(layer).in_data(np.array([0.0, 0, 1])))[
            shown_axes(self._viewer)
        ]
        if path.suffix.lower() in _MOVIES:
            self._film()
            return
        camera = camera_of(self._viewer)
        self._first = np.array(camera.view_direction), np.array(camera.up_direction)
        self._before = CameraState.of(self._viewer)
        self._pictures: list[np.ndarray] = []
        self._timer.start(0)

    def stop(self) -> None:
        """End it now, without a file; frames in a folder stay."""
        self._end("")

    def _look(self, degrees: float) -> None:
        view, up = turned(*self._first, self._axis, degrees)
        camera_of(self._viewer).set_view_direction(tuple(view), tuple(up))

    def _advance(self) -> None:
        number = len(self._pictures)
        try:
            self._look(360 * number / self._frames)
            self._pictures.append(canvas_pixels(self._viewer, self._background)[0])
            self._write_frame(number)
            if number + 1 == self._frames and self._path.suffix:
                _save_gif(self._pictures, self._path)
        except (OSError, CnnVisError) as exc:
            self._end("")
            self.failed.emit(f"Cannot write {self._path}: {exc}.".replace("..", "."))
            return
        self.advanced.emit(number + 1, self._frames)
        if number + 1 == self._frames:
            self._end(str(self._path))

    def _write_frame(self, number: int) -> None:
        from PIL import Image

        if not self._path.suffix:
            self._path.mkdir(exist_ok=True)
            name = f"{self._path.name}_{number:04d}.png"
            Image.fromarray(self._pictures[number]).save(self._path / name)
            self._pictures[number] = np.empty(0)

    def _end(self, written: str) -> None:
        if not self.busy:
            return
        self._timer.stop()
        before, self._before = self._before, None
        self._pictures = []
        before.restore(self._viewer)
        self.ended.emit(written)

    def _film(self) -> None:
        """By napari-animation, which brings the movie formats."""
        try:
            from napari_animation import Animation
        except ImportError as exc:
            raise CnnVisError(
                f"{self._path.suffix} needs the plugin napari-animation: pip install "
                "napari-animation. Or choose .gif, or a name without an ending for PNG files."
            ) from exc
        camera = camera_of(self._viewer)
        self._first = np.array(camera.view_direction), np.array(camera.up_direction)
        self._before = before = CameraState.of(self._viewer)
        parts = 8  # key frames near enough that what lies between is a turn about the axis
        try:
            # napari hands plugins a proxy that keeps this one out
            animation = Animation(getattr(self._viewer, "__wrapped__", self._viewer))
            for part in range(parts + 1):
                self._look(360 * part / parts)
                animation.capture_keyframe(steps=max(1, round(self._frames / parts)))
            animation.animate(str(self._path), fps=_PER_SECOND, canvas_only=True)
        except Exception as exc:  # whatever that plugin or its encoder raises
            self._before = None
            before.restore(self._viewer)
            raise CnnVisError(
                f"napari-animation could not write {self._path.name} ({type(exc).__name__}). "
                "Choose .gif, or a name without an ending for PNG files."
            ) from exc
        self._pictures = []
        self._end(str(self._path))


def _save_gif(pictures: list[np.ndarray], path: Path) -> None:
    from PIL import Image

    images = [Image.fromarray(p).convert("RGB").quantize() for p in pictures]
    with atomic_path(path) as temporary:
        images[0].save(
            temporary,
            "GIF",
            save_all=True,
            append_images=images[1:],
            duration=1000 // _PER_SECOND,
            loop=0,
        )
