"""A scan and its map as one plate: slices, a lightbox or six views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.explain.record import Record
from napari_cnnvis.figure.arrange import arranged
from napari_cnnvis.figure.colours import contrast_limits
from napari_cnnvis.figure.furniture import (
    FOOTER,
    MARGIN,
    TITLE_LINE,
    ColourBar,
    draw_colour_bar,
    draw_scale_bar,
    draw_title,
    title_lines,
)
from napari_cnnvis.figure.geometry import is_oblique
from napari_cnnvis.figure.page import Page, own_settings
from napari_cnnvis.figure.pictures import Subject, rows_of
from napari_cnnvis.figure.spec import FigureSpec
from napari_cnnvis.scan.volume import Volume

__all__ = ["Plate", "draw_frame", "draw_plate", "pixels_of"]

_CAPTION = 4.0
_CAPTION_SIZE = 7.0
_LETTER_SIZE = 7.5
_GAP = 2.0


@dataclass(frozen=True, eq=False)
class Plate:
    """A drawn figure.

    Attributes
    ----------
    figure : matplotlib.figure.Figure
        Not known to pyplot.
    notes : tuple of str
        What a reader of the figure should know, in plain words.
    limits : (float, float) or None
        The values at the ends of the colours.
    """

    figure: Any
    notes: tuple[str, ...] = ()
    limits: tuple[float, float] | None = None


def draw_plate(
    scan: Volume,
    map_: Volume,
    spec: FigureSpec,
    provenance: Mapping[str, Any] | None = None,
) -> Plate:
    """Draw a map on its scan.

    Parameters
    ----------
    scan, map_ : Volume
        On the same grid; their axes may be stored in different orders.
    spec : FigureSpec
    provenance : mapping, optional
        The map's record, for title and unit.

    Raises
    ------
    VolumeError
        If the map is not on the scan's grid, or a position lies outside.
    CnnVisError
        If the figure would be too large.
    """
    subject, notes = _subject(scan, map_, spec)
    rows, more = rows_of(subject, spec)
    record = Record(provenance or {})
    title = (record.title or map_.name) if spec.title is None else spec.title
    lines = title_lines(title, spec.width_mm)
    unit = record.unit if spec.unit is None else spec.unit
    ends = float(subject.values.min()), float(subject.values.max())
    bar = ColourBar(subject.limits, spec.threshold, unit, ends) if spec.colour_bar else None

    head = MARGIN + TITLE_LINE * len(lines)
    sheet = arranged(rows, spec.width_mm - 2 * MARGIN, _GAP, _CAPTION)
    footer = FOOTER if bar or spec.scale_bar else 0.0
    with own_settings():
        page = Page(spec, head + sheet.height + footer + MARGIN)
        draw_title(page, lines)
        for place in sheet.places:
            picture = place.picture
            left, top = page.to_pixels(MARGIN + place.left), page.to_pixels(head + place.top)
            shape = tuple(
                max(1, page.to_pixels(side * sheet.scale))
                for side in (picture.height, picture.width)
            )
            page.image(picture.rgba(shape, subject.limits, spec.threshold, spec.smooth), left, top)
            _draw_caption(page, place, sheet, head, spec.letters)
        below = head + sheet.height
        if bar:
            draw_colour_bar(page, bar, below)
        if spec.scale_bar:
            draw_scale_bar(page, sheet.scale, below)
    return Plate(page.figure, (*notes, *more), subject.limits)


def _draw_caption(page: Page, place: Any, sheet: Any, head: float, letters: bool) -> None:
    picture = place.picture
    width = picture.width * sheet.scale
    left = MARGIN + place.left
    y = head + place.bottom + 0.55 * _CAPTION
    room = width - (2 * Page.text_width("RR", _LETTER_SIZE) if letters else 0)
    fits = room / max(Page.text_width(picture.caption, _CAPTION_SIZE), 1e-6)
    size = _CAPTION_SIZE * min(1.0, max(0.5, fits))
    page.text(left + width / 2, y, picture.caption, size)
    if letters:
        page.text(left + 0.3, y, picture.ends[0], _LETTER_SIZE, ha="left", weight="bold")
        page.text(left + width - 0.3, y, picture.ends[1], _LETTER_SIZE, ha="right", weight="bold")


def _subject(scan: Volume, map_: Volume, spec: FigureSpec) -> tuple[Subject, list[str]]:
    notes = list(scan.notes)
    scan, map_ = scan.reoriented("RAS"), map_.reoriented("RAS")
    if not scan.same_grid(map_):
        what = (
            f"{' x '.join(map(str, map_.shape))} voxels, not {' x '.join(map(str, scan.shape))}"
            if map_.shape != scan.shape
            else "the same number of voxels, but elsewhere in space"
        )
        raise VolumeError(
            f"The map '{map_.name}' is not on the grid of the scan '{scan.name}': it has {what}. "
            "Take the scan that the map was made of, or resample the map to it."
        )
    if is_oblique(scan.affine):
        notes.append(
            "The scan lies oblique to the body's axes; slices and views follow its own axes, and "
            "their millimetres are those of the middle of each slice."
        )
    if not map_.data.any():
        notes.append("The map is 0 everywhere; the figure shows the scan alone.")
    subject = Subject.of(scan, map_.data, notes)
    if spec.head_only:
        total = float(np.abs(map_.data).sum())
        inside = np.where(subject.head, map_.data, np.float32(0))
        share = 1 - float(np.abs(inside).sum()) / total if total else 0.0
        notes.append(f"The map outside the head is not drawn ({share:.0%} of it).")
        subject = replace(subject, values=inside)
    limits = contrast_limits(subject.values) if spec.limits is None else spec.limits
    if limits[0] >= 0 and (subject.values < 0).any():
        notes.append("Negative values of the map are not drawn, as the limits begin above them.")
    return replace(subject, limits=limits), notes


def draw_frame(
    rgba: np.ndarray,
    spec: FigureSpec,
    title: str = "",
    bar: ColourBar | None = None,
    scale: float | None = None,
) -> Plate:
    """Put a rendered picture, such as of the viewer's canvas, on a page with title and bars.

    Parameters
    ----------
    rgba : array, uint8, shape (rows, columns, 4)
        Fills the width of the page.
    spec : FigureSpec
        Size, background, title and what is drawn beside the picture.
    title, bar : optional
        What `spec` does not say itself.
    scale : float, optional
        Pixels of the picture per millimetre in the patient, for a scale bar.
    """
    lines = title_lines(title if spec.title is None else spec.title, spec.width_mm)
    head = TITLE_LINE * len(lines) + (MARGIN if lines else 0.0)
    height = spec.width_mm * rgba.shape[0] / rgba.shape[1]
    drawn = bar if spec.colour_bar else None
    scaled = spec.scale_bar and scale is not None
    with own_settings():
        page = Page(spec, head + height + (FOOTER + MARGIN if drawn or scaled else 0.0))
        draw_title(page, lines)
        page.image(_fitted(rgba, page.pixels[1]), 0, page.to_pixels(head))
        if drawn:
            draw_colour_bar(page, drawn, head + height + 1)
        if scaled:
            draw_scale_bar(page, spec.width_mm / rgba.shape[1] * scale, head + height + 1)
    return Plate(page.figure)


def _fitted(rgba: np.ndarray, columns: int) -> np.ndarray:
    from PIL import Image

    if rgba.shape[1] == columns:
        return rgba
    rows = max(1, round(rgba.shape[0] * columns / rgba.shape[1]))
    return np.asarray(Image.fromarray(rgba).resize((columns, rows), Image.Resampling.LANCZOS))


def pixels_of(plate: Plate) -> np.ndarray:
    """The plate as pixels, uint8, shape (rows, columns, 4)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with own_settings():
        canvas = FigureCanvasAgg(plate.figure)
        canvas.draw()
        return np.array(canvas.buffer_rgba())
