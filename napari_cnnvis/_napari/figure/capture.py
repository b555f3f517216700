"""The viewer's canvas as pixels: one picture, or frames all around."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from napari.utils.colormaps import Colormap

from napari_cnnvis._napari.figure.camera import camera_of
from napari_cnnvis.errors import CnnVisError

__all__ = ["canvas_pixels", "set_background", "turned"]

#: pixels that a canvas can be stretched to
_WIDEST = 4096
#: brightness (of 255) below which a pixel counts as empty
_FAINT = 40
#: share of the white below which a scan fades into a bright page
_RIM = 0.2


def set_background(viewer: Any, colour: str | None) -> None:
    """Colour of the canvas, or None for that of napari's theme; napari before 0.9 keeps it."""
    canvas = getattr(viewer, "canvas", None)
    if hasattr(canvas, "background_color_override"):
        canvas.background_color_override = colour


@contextlib.contextmanager
def _clean(viewer: Any) -> Iterator[None]:
    """Without napari's colour bars; colours, zoom and background as before afterwards."""
    camera = camera_of(viewer)
    zoom = camera.zoom
    canvas = getattr(viewer, "canvas", None)
    colour = getattr(canvas, "background_color_override", None)
    bars = [
        bar
        for layer in viewer.layers
        if (bar := getattr(layer, "colorbar", None)) is not None and bar.visible
    ]
    grays = [
        (layer, layer.colormap)
        for layer in viewer.layers
        if getattr(layer, "rendering", None) == "attenuated_mip" and layer.colormap.name == "gray"
    ]
    try:
        for bar in bars:
            bar.visible = False
        yield
    finally:
        camera.zoom = zoom
        for layer, colormap in grays:
            layer.colormap = colormap
        for bar in bars:
            bar.visible = True
        if canvas is not None:
            set_background(viewer, colour)


def canvas_pixels(
    viewer: Any, background: str, width: int | None = None
) -> tuple[np.ndarray, float]:
    """What the canvas shows in 3D, without its colour bars.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    background : str
        "black", "white", or "transparent", which is worked out of both.
    width : int, optional
        Pixels of what is there to see, without the empty space around it; by default all of
        the canvas is taken as it is.

    Returns
    -------
    pixels : array, uint8, shape (rows, columns, 4)
        About so wide; graphics cards have limits.
    scale : float
        Pixels per unit of the world, which holds without perspective.

    Raises
    ------
    CnnVisError
        If the canvas has no room in the window.
    """
    camera = camera_of(viewer)
    size = getattr(getattr(viewer, "canvas", None), "size", (1, 1))
    if min(size) < 1:
        raise CnnVisError("The canvas is too small to be seen; make the window larger.")
    with _clean(viewer):
        scale, box = 1.0, (slice(None), slice(None))
        if width is not None:
            seen = _shot(viewer, "black", 1.0)
            box = _filled(seen)
            scale = width / (box[1].stop - box[1].start)
            scale = max(0.1, min(scale, _WIDEST / max(seen.shape[:2])))
            camera.zoom = camera.zoom * scale
        zoom = float(camera.zoom)
        if background != "black":
            _fade_grays(viewer)
        if background == "transparent":
            pixels = _without_background(*(_shot(viewer, c, scale) for c in ("black", "white")))
        else:
            pixels = _shot(viewer, background, scale)
        if width is not None:
            ratio = np.array(pixels.shape[:2]) / seen.shape[:2]
            box = tuple(
                slice(round(side.start * r), max(round(side.stop * r), 1))
                for side, r in zip(box, ratio, strict=True)
            )
        return np.ascontiguousarray(pixels[box]), zoom


def _shot(viewer: Any, background: str, scale: float) -> np.ndarray:
    set_background(viewer, background)
    return viewer.screenshot(scale=scale, flash=False)


def _filled(seen: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns where there is something on black, and a little around."""
    there = seen[..., :3].max(axis=2) > _FAINT
    if not there.any():
        return slice(0, seen.shape[0]), slice(0, seen.shape[1])
    box = []
    for axis in (0, 1):
        places = np.flatnonzero(there.any(axis=1 - axis))
        air = round(0.03 * len(places)) + 2
        box.append(slice(max(0, places[0] - air), min(there.shape[axis], places[-1] + 1 + air)))
    return tuple(box)


def _fade_grays(viewer: Any) -> None:
    """Let the dark rim of a scan fade into a bright page, where it would be a black outline."""
    steps = np.linspace(0, 1, 64)
    table = np.column_stack([steps, steps, steps, np.clip(steps / _RIM, 0, 1)])
    for layer in viewer.layers:
        if getattr(layer, "rendering", None) == "attenuated_mip" and layer.colormap.name == "gray":
            layer.colormap = Colormap(table, name="gray that fades")


def _without_background(black: np.ndarray, white: np.ndarray) -> np.ndarray:
    """Opacity and colour of what was rendered on black and on white."""
    dark, bright = black[..., :3].astype(float), white[..., :3].astype(float)
    alpha = np.clip(1 - (bright - dark).mean(axis=2) / 255, 0, 1)
    colour = dark / np.where(alpha > 0, alpha, 1)[..., None]
    return np.rint(np.dstack([np.clip(colour, 0, 255), 255 * alpha])).astype(np.uint8)


def turned(
    view: np.ndarray, up: np.ndarray, axis: np.ndarray, degrees: float
) -> tuple[np.ndarray, np.ndarray]:
    """View and up direction turned about an axis (Rodrigues)."""
    angle = np.deg2rad(degrees)
    axis = axis / np.linalg.norm(axis)

    def turn(vector: np.ndarray) -> np.ndarray:
        along = axis * (axis @ vector) * (1 - np.cos(angle))
        return vector * np.cos(angle) + np.cross(axis, vector) * np.sin(angle) + along

    return turn(np.asarray(view, float)), turn(np.asarray(up, float))
