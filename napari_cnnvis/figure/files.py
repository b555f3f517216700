"""Figures as files: PNG, TIFF, SVG and PDF, with the JSON that draws them again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.explain.record import read_record
from napari_cnnvis.figure.plate import Plate, draw_plate, pixels_of
from napari_cnnvis.figure.record import FigureRecord, Origin, record_path, versions
from napari_cnnvis.figure.spec import FigureSpec
from napari_cnnvis.reading import source_file
from napari_cnnvis.scan.volume import Volume
from napari_cnnvis.writing import PYTHON, atomic_path, check_output

__all__ = ["ENDINGS", "check_picture", "provenance_beside", "save_plate", "write_figure"]

#: endings of pictures, and what they hold
ENDINGS = {
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".svg": "SVG",
    ".pdf": "PDF",
}


def write_figure(
    scan: Volume,
    map_: Any,
    spec: FigureSpec,
    path: str | os.PathLike,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> FigureRecord:
    """Draw a map on its scan into a file, with a JSON beside it that draws it again.

    Parameters
    ----------
    scan : Volume
    map_ : Volume or Attribution
        On the scan's grid.
    spec : FigureSpec
    path : path-like
        ``.png``, ``.tif``, ``.tiff``, ``.svg`` or ``.pdf``. In the last two text, lines and
        colour bars' ticks are not pixels. ``plate.png`` gets ``plate.json``.
    provenance : mapping, optional
        The map's record, for title and unit; an Attribution has its own.
    overwrite : bool
        Replace a picture that is there, with its JSON.

    Returns
    -------
    FigureRecord
        What the JSON says; its notes are for the reader of the figure.

    Raises
    ------
    CnnVisError
        If the ending is not one of these, the map is not on the scan's grid, a position lies
        outside, or the file cannot be written.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> result = cv.grad_cam(model, volume, "lesion")
    >>> record = cv.write_figure(volume, result, cv.FigureSpec(layout="slices"), "plate.png")
    >>> record.picture.name
    'plate.png'
    """
    source = map_.source if isinstance(map_, Volume) else map_.source.source
    inputs = [source_file(one)[0] for one in (scan.source, source)]
    path = check_picture(path, inputs, overwrite)
    if not isinstance(map_, Volume):
        provenance = {**map_.provenance, "partial": map_.partial, **(provenance or {})}
        map_ = Volume(map_.data, map_.affine, map_.name)
    plate = draw_plate(scan, map_, spec, provenance)
    record = FigureRecord(
        spec,
        path,
        Origin.of(scan),
        Origin.of(map_),
        dict(provenance or {}),
        plate.limits,
        plate.notes,
        versions(),
    )
    save_plate(plate, path, spec)
    record.save()
    return record


def check_picture(
    path: str | os.PathLike,
    inputs: Iterable[str | os.PathLike | None] = (),
    overwrite: bool = False,
    how: str = PYTHON,
) -> Path:
    """The path, if a figure and its JSON can be written there.

    Parameters
    ----------
    path, inputs, overwrite, how
        See `check_output`.

    Raises
    ------
    CnnVisError
        If the ending is not one of `ENDINGS`, another file's JSON lies where that of the
        picture would go, or see `check_output`.
    """
    path, inputs = Path(path), list(inputs)
    if path.suffix.lower() not in ENDINGS:
        raise CnnVisError(
            f"A figure cannot be written as {path.name}; use one of the endings "
            f"{', '.join(ENDINGS)}."
        )
    check_output(path, inputs, overwrite, how)
    check_output(record_path(path), inputs, overwrite, how)
    return path


def save_plate(plate: Plate, path: Path, spec: FigureSpec) -> None:
    """Write a drawn plate, moved into place when complete."""
    kind = ENDINGS[path.suffix.lower()]
    with atomic_path(path) as temporary:
        if kind in ("PNG", "TIFF"):
            _save_pixels(pixels_of(plate), temporary, kind, spec)
        else:
            _save_vectors(plate, temporary, kind, spec)


def _save_pixels(pixels: np.ndarray, path: Path, kind: str, spec: FigureSpec) -> None:
    from PIL import Image

    if spec.background != "transparent":
        pixels = np.ascontiguousarray(pixels[..., :3])
    extra = {"compression": "tiff_lzw"} if kind == "TIFF" else {}
    Image.fromarray(pixels).save(path, kind, dpi=(spec.dpi, spec.dpi), **extra)


def _save_vectors(plate: Plate, path: Path, kind: str, spec: FigureSpec) -> None:
    from napari_cnnvis.figure.page import own_settings

    dated = {"SVG": {"Date": None}, "PDF": {"CreationDate": None, "ModDate": None}}[kind]
    with own_settings():
        plate.figure.savefig(path, format=kind.lower(), dpi=spec.dpi, metadata=dated)


def provenance_beside(path: str | os.PathLike) -> dict[str, Any]:
    """What the JSON beside a map says of it; empty where there is none."""
    record = read_record(path)
    return {} if record is None else dict(record.values)
