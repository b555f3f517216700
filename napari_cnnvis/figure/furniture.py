"""What stands around the pictures of a page: title, colour bar, scale bar."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np

from napari_cnnvis.figure.colours import colours_of
from napari_cnnvis.figure.labels import number_text, ticks_of
from napari_cnnvis.figure.page import Page

__all__ = [
    "FOOTER",
    "MARGIN",
    "TITLE_LINE",
    "ColourBar",
    "draw_colour_bar",
    "draw_scale_bar",
    "draw_title",
    "title_lines",
]

#: millimetres around everything
MARGIN = 3.0
_TITLE_SIZE = 9.0
TITLE_LINE = 4.6
#: millimetres of the strip below the pictures
FOOTER = 12.5
_LABEL_SIZE = 7.0
_BAR_HEIGHT = 2.6
_LENGTHS = (1, 2, 5, 10, 20, 50, 100, 200)


@dataclass(frozen=True)
class ColourBar:
    """What a colour bar says.

    Attributes
    ----------
    limits : (float, float)
    threshold : float
    unit : str
    ends : (float, float)
        Smallest and largest value of the map; labels say so where it goes beyond the limits.
    """

    limits: tuple[float, float]
    threshold: float
    unit: str
    ends: tuple[float, float]

    def labels(self) -> tuple[list[tuple[float, str]], str]:
        """Value and text of each tick, and the text below them."""
        low, high = self.limits
        values, power = ticks_of(low, high)
        texts = [number_text(value, power) for value in values]
        if self.ends[1] > high * (1 + 1e-6):
            texts[-1] = "≥ " + texts[-1]
        if low < 0 and self.ends[0] < low * (1 + 1e-6):
            texts[0] = "≤ " + texts[0]
        digits = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        factor = f"× 10{digits}" if power else ""
        return list(zip(values, texts, strict=True)), " ".join(filter(None, [factor, self.unit]))


def title_lines(title: str, width: float) -> list[str]:
    """The title in lines that fit a page of a width in mm."""
    letters = int((width - 2 * MARGIN) / Page.text_width("n", _TITLE_SIZE))
    return [part for line in title.splitlines() for part in textwrap.wrap(line, max(10, letters))]


def draw_title(page: Page, lines: list[str]) -> None:
    """Write the title at the top of a page."""
    for number, line in enumerate(lines):
        y = MARGIN + (number + 0.5) * TITLE_LINE - 0.6
        page.text(page.width / 2, y, line, _TITLE_SIZE)


def draw_colour_bar(page: Page, bar: ColourBar, top: float) -> None:
    """Draw the colours with ticks and unit at the right of the strip that begins at `top`."""
    low, high = bar.limits
    width = min(60.0, 0.5 * page.width)
    left, down = page.to_pixels(page.width - MARGIN - 5 - width), page.to_pixels(top + 1.2)
    columns, rows = page.to_pixels(width), max(2, page.to_pixels(_BAR_HEIGHT))
    values = low + (np.arange(columns) + 0.5) / columns * (high - low)
    colours = colours_of(values, bar.limits, bar.threshold)
    page.image(np.rint(255 * np.tile(colours, (rows, 1, 1))).astype(np.uint8), left, down)
    to_mm = 25.4 / page.spec.dpi
    x0, x1 = left * to_mm, (left + columns) * to_mm
    y0, y1 = down * to_mm, (down + rows) * to_mm
    page.line((x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0), (x1, y0), width=0.5)
    ticks, below = bar.labels()
    for value, text in ticks:
        x = x0 + (value - low) / (high - low) * (x1 - x0)
        page.line((x, y1), (x, y1 + 0.9), width=0.5)
        page.text(x, y1 + 2.6, text, _LABEL_SIZE)
    if below:
        fits = width / Page.text_width(below, _LABEL_SIZE)
        middle = (x0 + x1) / 2
        page.text(middle, y1 + 5.9, below, _LABEL_SIZE * min(1.0, max(0.6, fits)))


def draw_scale_bar(page: Page, scale: float, top: float) -> None:
    """Draw a bar of a round length in the patient, `scale` being paper over patient."""
    longest = min(20.0, 0.2 * page.width) / scale
    length = max((n for n in _LENGTHS if n <= longest), default=_LENGTHS[0])
    y = top + 1.2 + _BAR_HEIGHT / 2
    x0, x1 = MARGIN + 2, MARGIN + 2 + length * scale
    page.line((x0, y), (x1, y), width=2.0)
    page.text(x0, y + 3.9, f"{length} mm", _LABEL_SIZE, ha="left")
