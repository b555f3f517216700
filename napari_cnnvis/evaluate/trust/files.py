"""The files of a report."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.evaluate.trust.measured import Measured
from napari_cnnvis.evaluate.trust.plot import draw
from napari_cnnvis.reading import read_small
from napari_cnnvis.writing import atomic_path, check_folder

__all__ = ["CSV_COLUMNS", "check_report", "save_report"]

#: what a report consists of
FILES = ("trust.json", "curves.csv", "trust.png", "trust.svg")

#: the header of ``curves.csv``: one row for each point of each curve
CSV_COLUMNS = ("test", "curve", "fraction", "score")


def save_report(report: Measured, folder: str | Path) -> Path:
    """Write a report: ``trust.json``, ``curves.csv``, ``trust.png`` and ``trust.svg``.

    Each file is complete or not there; the folder is made if need be.

    Raises
    ------
    VolumeError
        If a file cannot be written, or see `check_report`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    folder = check_report(folder, report.attribution.record.files)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise VolumeError(
            f"Cannot make the folder {folder}: {exc.strerror or exc}. Choose another place."
        ) from exc
    with atomic_path(folder / "trust.json") as temporary:
        text = json.dumps(_plain(report.to_dict()), indent=2, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    with (
        atomic_path(folder / "curves.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        writer.writerows(_rows(report))
    figure = Figure(figsize=(7, 5), dpi=200)
    draw(report, figure)
    with atomic_path(folder / "trust.png") as temporary:
        FigureCanvasAgg(figure).print_png(temporary)
    with atomic_path(folder / "trust.svg") as temporary:
        FigureCanvasSVG(figure).print_svg(temporary, metadata={"Date": None})
    return folder


def check_report(
    folder: str | os.PathLike, inputs: Iterable[str | os.PathLike | None] = ()
) -> Path:
    """The folder, if a report can be written into it; an earlier report there is replaced.

    Raises
    ------
    VolumeError
        If it is a file, or a file in it would be lost; see `check_folder`.
    """
    folder = Path(folder)
    own = False
    with contextlib.suppress(OSError, ValueError, RecursionError):
        said = json.loads(read_small(folder / FILES[0]))
        own = isinstance(said, dict) and {"verdict", "findings"} <= set(said)
    return check_folder(folder, FILES, inputs, own)


def _rows(report: Measured) -> list[tuple[str, str, float, float]]:
    rows = []
    if report.removal is None:
        return rows
    for curves in (report.removal.deletion, report.removal.insertion):
        named = {"map": curves.map, "edges": curves.edges, "brain": curves.brain}
        named |= {f"random {n + 1}": curve for n, curve in enumerate(curves.random)}
        for name, curve in named.items():
            points = zip(curves.fractions.tolist(), curve.tolist(), strict=True)
            rows += [(curves.kind, name, fraction, score) for fraction, score in points]
    return rows


def _plain(value: Any) -> Any:
    """Without what JSON does not know: NaN and infinity become null."""
    if isinstance(value, dict):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
