"""Rows of look-up tables with columns: BIDS, CAT12, and whatever a spreadsheet writes."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

from napari_cnnvis.atlas.plain_rows import Colour, Row, colour, fractions, is_label
from napari_cnnvis.errors import VolumeError, shortened, some_of

__all__ = ["column_rows"]

# names of columns in lower case, without spaces and marks
_INDEX_COLUMNS = (
    *("index", "idx", "no", "number", "id", "value", "label", "labels", "key", "roi", "roiid"),
    *("labelid", "labelindex", "labelno", "labelnumber", "labelvalue", "regionid", "structureid"),
    *("intensity", "code"),
)
_NAME_COLUMNS = (
    *("name", "names", "labelname", "roiname", "regionname", "structurename", "fullname"),
    *("longname", "structure", "region", "roi", "label", "labels", "description"),
    *("abbreviation", "abbr", "roiabbr", "shortname", "acronym"),
)
_COLOUR_COLUMNS = ("color", "colour", "hex", "rgb", "rgba", "colorhextriplet")
_CHANNELS = (("r", "g", "b"), ("red", "green", "blue"))
_SEPARATORS = "\t,;|"
_SHOWN = 8


def column_rows(lines: Sequence[str], comments: Sequence[str], name: str) -> list[Row]:
    """The rows of a table with separators, with or without a header; [] if it is none.

    Parameters
    ----------
    lines : sequence of str
        Without comments.
    comments : sequence of str
        Those before the first line; the last one may be the header.
    name : str
        Of the file.

    Raises
    ------
    VolumeError
        If it has a header without a column for the numbers of labels, or for their names.
    """
    separator = ""
    if lines and lines[0].lower().startswith("sep="):  # for Excel
        separator, lines = lines[0][4:5], lines[1:]
    if not lines:
        return []
    separator = separator or max(_SEPARATORS, key=lines[0].count)
    cells = _cells(lines, separator)
    if not cells:
        return []
    header: list[str] = []
    places = _places_without_header(cells)
    if places is None:
        header, cells = cells[0], cells[1:]
    elif comments and separator in comments[-1]:
        header = _cells([comments[-1].lstrip("#/ ")], separator)[0]
    known = {re.sub(r"[\W_]", "", cell.lower()): n for n, cell in reversed([*enumerate(header)])}
    index, named, colours = _columns(known, cells)
    if (index is None or named is None) and places is not None:
        index, named = places
        colours = () if header or len(cells[0]) < 5 else (2, 3, 4)
    if index is None or named is None:
        if len(header) < 2 or not any(_is_whole(cell) for row in cells for cell in row):
            return []  # text with commas
        shown = some_of((f"'{shortened(cell, 40)}'" for cell in header), most=_SHOWN)
        what = "the numbers of labels ('index')" if index is None else "their names ('name')"
        raise VolumeError(f"{name} has no column for {what}; its columns are {shown}.")
    rows = [r for r in cells if max(index, named) < len(r) and _is_whole(r[index]) and r[named]]
    as_fractions = len(colours) == 3 and _all_fractions(rows, colours)
    return [
        (int(r[index].partition(".")[0]), r[named], _colour_of(r, colours, as_fractions))
        for r in rows
    ]


def _cells(lines: Sequence[str], separator: str) -> list[list[str]]:
    try:
        rows = csv.reader(lines, delimiter=separator)
        return [[cell.strip() for cell in row] for row in rows if row]
    except csv.Error:  # a quotation mark that nothing closes
        return []


def _places_without_header(cells: Sequence[Sequence[str]]) -> tuple[int, int] | None:
    """The columns of numbers and names of a table that begins with its first label."""
    width = min(map(len, cells))
    whole = [n for n in range(width) if all(_is_whole(row[n]) for row in cells)]
    if not whole and not _is_whole(cells[0][0]):
        return None
    index = whole[0] if whole else 0
    texts = [n for n in range(len(cells[0])) if n not in whole and n != index]
    if index or not texts:  # AAL: abbreviation, name, number
        texts = texts[-1:]
    return (index, texts[0]) if texts else None


def _columns(
    header: dict[str, int], cells: Sequence[Sequence[str]]
) -> tuple[int | None, int | None, tuple[int, ...]]:
    """Which columns hold the numbers, the names and the colour (one, or three, or none)."""

    def column(n: int) -> list[str]:
        return [row[n] for row in cells if n < len(row) and row[n]]

    def whole(n: int) -> bool:
        return bool(column(n)) and all(_is_whole(cell) for cell in column(n))

    index = next((header[k] for k in _INDEX_COLUMNS if k in header and whole(header[k])), None)
    names = (header[k] for k in _NAME_COLUMNS if k in header and header[k] != index)
    name = next((n for n in names if column(n) and not whole(n)), None)
    for channels in _CHANNELS:
        if set(channels) <= set(header):
            return index, name, tuple(header[k] for k in channels)
    return index, name, tuple(header[k] for k in _COLOUR_COLUMNS if k in header)[:1]


def _all_fractions(rows: Sequence[Sequence[str]], columns: tuple[int, ...]) -> bool:
    """Whether the channels of a colour run from 0 to 1."""
    channels = [row[n] for row in rows for n in columns if n < len(row)]
    try:
        values = [float(channel) for channel in channels]
    except ValueError:
        return False
    return bool(values) and max(values) <= 1 and any(value % 1 for value in values)


def _colour_of(row: Sequence[str], columns: tuple[int, ...], as_fractions: bool) -> Colour | None:
    if not columns or max(columns) >= len(row):
        return None
    if len(columns) == 3:
        return (fractions if as_fractions else colour)(*(row[n] for n in columns))
    text = row[columns[0]].lstrip("#")
    if set(text) <= _HEX and len(text) in (6, 8):
        return int(text[:2], 16), int(text[2:4], 16), int(text[4:6], 16)
    if set(text) <= _HEX and len(text) == 3:
        return tuple(17 * int(digit, 16) for digit in text)
    numbers = re.findall(r"\d+", text)
    return colour(*numbers[:3]) if len(numbers) >= 3 else None


_HEX = set("0123456789abcdefABCDEF")


def _is_whole(cell: str) -> bool:
    whole, _, fraction = cell.partition(".")
    return is_label(whole) and (cell == whole or bool(fraction)) and not fraction.strip("0")
