"""A sheet of paper in millimetres on which pictures keep their pixels and text stays text."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.figure.spec import FigureSpec

__all__ = ["Page", "own_settings"]

_FONT = "DejaVu Sans"  # comes with matplotlib, so that a figure looks the same everywhere
_POINT = 25.4 / 72
_SETTINGS = {
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
    "font.family": _FONT,
    "path.sketch": None,
    "path.effects": [],
    "pdf.fonttype": 42,
    "savefig.bbox": None,
    "savefig.facecolor": "auto",
    "svg.fonttype": "none",
    "svg.hashsalt": "napari-cnnvis",
    "text.antialiased": True,
    "text.hinting": "force_autohint",
    "text.usetex": False,
}
_ONE_AT_A_TIME = threading.RLock()
#: pixels of a picture, beyond which memory runs out
_MOST_PIXELS = 400_000_000


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """matplotlib's settings as figures need them, whatever the user's own are."""
    from matplotlib import rc_context

    with _ONE_AT_A_TIME, rc_context(_SETTINGS):
        yield


class Page:
    """Places images, text and lines on a figure by millimetres from its upper left corner.

    Parameters
    ----------
    spec : FigureSpec
        Width, dpi and background.
    height : float
        Millimetres.

    Raises
    ------
    CnnVisError
        If the page has more pixels than fit into memory.
    """

    def __init__(self, spec: FigureSpec, height: float) -> None:
        from matplotlib.figure import Figure

        self.spec = spec
        self.width = spec.width_mm
        self.pixels = (int(np.ceil(height / 25.4 * spec.dpi)), spec.pixels)
        if self.pixels[0] * self.pixels[1] > _MOST_PIXELS:
            raise CnnVisError(
                f"A figure of {self.pixels[1]} x {self.pixels[0]} pixels is too large; "
                "take a smaller width, dpi or number of slices."
            )
        self.height = self.pixels[0] / spec.dpi * 25.4
        self.ink = "white" if spec.background == "black" else "black"
        paper = "none" if spec.background == "transparent" else spec.background
        # a hundredth of a pixel more, as matplotlib cuts off
        inches = [(count + 0.01) / spec.dpi for count in reversed(self.pixels)]
        self.figure = Figure(figsize=inches, dpi=spec.dpi, facecolor=paper, edgecolor="none")

    def to_pixels(self, length: float) -> int:
        """Whole pixels of a length in mm."""
        return round(length / 25.4 * self.spec.dpi)

    def image(self, rgba: np.ndarray, left: int, top: int) -> None:
        """Put pixels on the page, one to one, at a pixel position."""
        rows, columns = rgba.shape[:2]
        high, wide = self.pixels
        place = (left / wide, 1 - (top + rows) / high, columns / wide, rows / high)
        axes = self.figure.add_axes(place, frameon=False)
        axes.set_axis_off()
        axes.imshow(
            rgba,
            extent=(0, columns, rows, 0),
            origin="upper",
            aspect="auto",
            interpolation="none",
        )

    def text(self, x: float, y: float, text: str, size: float, **how: Any) -> None:
        """Write `text` with its middle (or what `how` says) at a place; `size` in points."""
        how = {"ha": "center", "va": "center", "color": self.ink} | how
        self.figure.text(
            x / self.width,
            1 - y / self.height,
            text,
            fontsize=size,
            family=_FONT,
            parse_math=False,
            **how,
        )

    def line(self, *points: tuple[float, float], width: float = 0.8) -> None:
        """Draw a line through places; `width` in points."""
        from matplotlib.lines import Line2D

        x, y = np.transpose(points)
        self.figure.add_artist(
            Line2D(
                x / self.width,
                1 - y / self.height,
                color=self.ink,
                linewidth=width,
                solid_capstyle="butt",
                solid_joinstyle="miter",
                transform=self.figure.transFigure,
            )
        )

    @staticmethod
    def text_width(text: str, size: float) -> float:
        """About how many millimetres a text takes."""
        return 0.6 * size * _POINT * len(text)
