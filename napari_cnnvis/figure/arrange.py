"""Pictures in rows and columns, all in one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_cnnvis.figure.raster import Picture

__all__ = ["Place", "Sheet", "arranged", "columns_for"]


@dataclass(frozen=True, eq=False)
class Place:
    """A picture, its upper left corner and the end of its row in mm on the sheet."""

    picture: Picture
    left: float
    top: float
    bottom: float


@dataclass(frozen=True, eq=False)
class Sheet:
    """Where pictures lie; `scale` is paper over patient, `height` in mm of paper."""

    places: tuple[Place, ...]
    scale: float
    height: float


def arranged(rows: Sequence[Sequence[Picture]], width: float, gap: float, caption: float) -> Sheet:
    """Put rows of pictures on a sheet of a width in mm, each in the middle of its column."""
    columns = max(len(row) for row in rows)
    widest = np.array([max(row[c].width for row in rows if c < len(row)) for c in range(columns)])
    scale = (width - gap * (columns - 1)) / widest.sum()
    lefts = np.cumsum([0.0, *(widest[:-1] * scale + gap)])
    places, top = [], 0.0
    for row in rows:
        tallest = max(picture.height for picture in row)
        for picture, left, room in zip(row, lefts, widest, strict=False):
            places.append(
                Place(
                    picture,
                    float(left + (room - picture.width) * scale / 2),
                    float(top + (tallest - picture.height) * scale / 2),
                    float(top + tallest * scale),
                )
            )
        top += tallest * scale + caption
    return Sheet(tuple(places), float(scale), float(top))


def columns_for(count: int, height: float, width: float) -> int:
    """How many columns make a sheet of equal pictures about 4 to 3, with few empty places."""

    def cost(columns: int) -> float:
        rows = -(-count // columns)
        empty = (rows * columns - count) / columns
        return abs(np.log(rows * height / (columns * width) / 0.75)) + 0.4 * empty

    return min(range(1, count + 1), key=cost)
