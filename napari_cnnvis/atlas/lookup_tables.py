"""Look-up tables: names and colours of an atlas's labels, from the files that atlases come with."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from napari_cnnvis.atlas.freesurfer_labels import freesurfer_labels
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.reading import check_plain

__all__ = ["LookupTable", "freesurfer_table", "read_lookup_table", "table_beside"]

Colour = tuple[int, int, int]

#: endings of the files that are looked for beside a label volume
_ENDINGS = (".tsv", ".txt", ".csv", ".label", ".lut", ".ctab")
#: how far up a table of a BIDS data set may lie
_BIDS_LEVELS = 4
#: bytes of a table, and letters of a line
_TEXT_LIMIT, _LINE_LIMIT = 1_000_000, 20_000
#: digits of a label
_DIGITS = 18

_INDEX_COLUMNS = ("index", "no", "no.", "number", "id", "value", "label", "labels", "key", "roi")
_NAME_COLUMNS = (
    *("name", "names", "label name", "labelname", "label_name", "structure", "region"),
    *("roi", "label", "labels", "description", "abbreviation"),
)
_COLOUR_COLUMNS = ("color", "colour", "hex", "rgb")
_CHANNELS = (("r", "g", "b"), ("red", "green", "blue"))


@dataclass(frozen=True)
class LookupTable:
    """What the labels of an atlas are called, and their colours where they are known.

    Attributes
    ----------
    names : dict of int to str
    colours : dict of int to (int, int, int)
        Red, green and blue from 0 to 255.
    source : str
        The file, or what else the table is of.
    """

    names: dict[int, str]
    colours: dict[int, Colour] = field(default_factory=dict)
    source: str = ""


def read_lookup_table(path: str | os.PathLike) -> LookupTable:
    """Read names and colours of labels.

    Parameters
    ----------
    path : path-like
        FreeSurfer's ``FreeSurferColorLUT.txt`` and its like, a BIDS ``_dseg.tsv`` (columns
        index, name, perhaps color), a label description of ITK-SNAP, a table with a
        header (tab, comma, semicolon), or lines with a number and a name.

    Raises
    ------
    VolumeError
        If there is no such file, or no line of it names a label.
    """
    path = Path(path)
    lines = [line.strip() for line in _text_of(path).splitlines()]
    lines = [line for line in lines if line and not line.startswith(("#", "//"))]
    if max(map(len, lines), default=0) > _LINE_LIMIT:
        raise VolumeError(
            f"{path.name} has lines of more than {_LINE_LIMIT:,} letters, so it is no look-up table; "
            "choose a text file with a label a line."
        )
    rows = _plain_rows(lines)
    if rows is None:
        rows = list(_delimited_rows(lines))
    names = {number: name for number, name, _ in rows}
    if not names:
        raise VolumeError(
            f"{path.name} names no labels; a table has lines such as '17 Left-Hippocampus', with or "
            "without a colour, or the columns index and name."
        )
    colours = {number: colour for number, _, colour in rows if colour is not None}
    return LookupTable(names, colours, str(path))


def table_beside(path: str | os.PathLike) -> Path | None:
    """The look-up table that lies beside a label volume, or None.

    ``atlas.txt`` (or another usual ending) and ``atlas.nii.txt`` go with ``atlas.nii.gz``.
    ``desc-x_dseg.tsv`` goes with ``sub-1_desc-x_dseg.nii.gz``, up to three folders higher, too.
    """
    path = Path(path)
    plain = path.name.removesuffix(".gz")
    stem = plain.rpartition(".")[0] or plain
    for name in (stem, plain, path.name):
        for ending in _ENDINGS:
            if (found := path.with_name(name + ending)).is_file() and found != path:
                return found
    if stem.split("_")[-1] != "dseg":
        return None
    parts = set(stem.split("_"))
    for folder in list(path.absolute().parents)[:_BIDS_LEVELS]:
        fitting = [
            table for table in folder.glob("*dseg.tsv") if set(table.stem.split("_")) <= parts
        ]
        if fitting:
            return max(fitting, key=lambda table: (len(table.stem.split("_")), table.name))
    return None


def freesurfer_table(labels: Sequence[int], name: str = "") -> LookupTable | None:
    """FreeSurfer's names, if these labels seem to be FreeSurfer's; else None.

    Parameters
    ----------
    labels : sequence of int
        Those of a volume, without 0.
    name : str
        Its file's name; one with "aseg", "aparc" or "wmparc" is believed.
    """
    known = freesurfer_labels()
    there = [int(label) for label in labels if int(label) in known]
    told = any(part in name.lower() for part in ("aseg", "aparc", "wmparc", "synthseg"))
    # masks with the labels 1, 2, 3 are not; 2 and 3 alone could be anything
    alike = len(there) == len(labels) and max(there, default=0) >= 10
    if not there or not (told or alike):
        return None
    names = {label: known[label][0] for label in there}
    return LookupTable(names, {label: known[label][1] for label in there}, "FreeSurfer's numbers")


def _text_of(path: Path) -> str:
    check_plain(path, "a look-up table, a text file")
    try:
        if path.stat().st_size > _TEXT_LIMIT:
            raise VolumeError(f"{path.name} is too large for a look-up table; choose a text file.")
        raw = path.read_bytes()
    except OSError as exc:
        raise VolumeError(f"Cannot read {path}: {exc.strerror or exc}.") from exc
    if b"\0" in raw:
        raise VolumeError(
            f"{path.name} is no text file; choose a look-up table such as FreeSurferColorLUT.txt or "
            "a .tsv with the columns index and name."
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


Row = tuple[int, str, Colour | None]


def _plain_rows(lines: Sequence[str]) -> list[Row] | None:
    """The rows of a table without header and separators; None if a line is not of one."""
    readers = [_itk_snap_row, _freesurfer_row]
    if not any(mark in line for line in lines for mark in "\t,;|"):
        readers.append(_pair_row)
    for read in readers:
        rows = list(_rows_until_none(lines, read))
        if lines and len(rows) == len(lines):
            return rows
    return None


def _rows_until_none(lines: Sequence[str], read: Callable[[str], Row | None]) -> Iterator[Row]:
    """The rows of the lines up to the first that `read` cannot read."""
    for line in lines:
        row = read(line)
        if row is None:
            return
        yield row


# no regular expressions: what goes back to try again can take for ever on a hostile line
def _itk_snap_row(line: str) -> Row | None:
    """Number, red, green, blue, alpha, visible, in the mesh, "name"."""
    parts = line.split(None, 7)
    if len(parts) < 8 or not _is_label(parts[0]) or not all(map(_is_number, parts[1:4])):
        return None
    quoted, inside = parts[7], parts[7][1:-1]
    if len(quoted) < 2 or quoted[0] != '"' or quoted[-1] != '"' or '"' in inside:
        return None
    if not _is_decimal(parts[4]) or not {parts[5], parts[6]} <= {"0", "1"}:
        return None
    return int(parts[0]), inside, _colour(*parts[1:4])


def _freesurfer_row(line: str) -> Row | None:
    """Number, name, red, green, blue, perhaps alpha."""
    for numbers in (4, 3):
        parts = line.rsplit(None, numbers)
        head = parts[0].split(None, 1)
        if len(parts) == numbers + 1 and len(head) == 2 and all(map(_is_number, parts[1:])):
            number, name = head
            return (
                (int(number), name.strip('"'), _colour(*parts[1:4])) if _is_label(number) else None
            )
    return None


def _pair_row(line: str) -> Row | None:
    """A number and a name of words, then perhaps other numbers, as AAL has it."""
    number, *rest = line.split(None, 1)
    if not rest or not _is_label(number):
        return None
    words = rest[0].split()
    n_words = next((n for n, word in enumerate(words) if not _has_letter(word)), len(words))
    after = words[n_words:]
    if not n_words or not all(_is_decimal(part.removeprefix("-")) for part in after):
        return None
    return int(number), rest[0].rsplit(None, len(after))[0] if after else rest[0], None


def _is_decimal(text: str) -> bool:
    return bool(text) and all(c == "." or c.isdecimal() for c in text)


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= _DIGITS


def _is_label(text: str) -> bool:
    return _is_number(text.removeprefix("-"))


def _has_letter(word: str) -> bool:
    return any(c == "_" or (c.isalnum() and not c.isdecimal()) for c in word)


def _delimited_rows(lines: Sequence[str]) -> Iterator[Row]:
    """The rows of a table with separators, with or without a header."""
    if not lines:
        return
    separator = max("\t,;|", key=lines[0].count)
    try:
        cells = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]
    except csv.Error:  # a quotation mark that nothing closes
        return
    header: dict[str, int] = {}
    if not _is_whole(cells[0][0]):
        header = {cell.lower().lstrip("#").strip(): n for n, cell in enumerate(cells.pop(0))}
    index, name, colour = _columns(header, cells)
    if index is None or name is None:
        return
    for row in cells:
        if max(index, name) < len(row) and _is_whole(row[index]) and row[name]:
            yield int(row[index].partition(".")[0]), row[name], _colour_of(row, colour)


def _columns(
    header: dict[str, int], cells: Sequence[Sequence[str]]
) -> tuple[int | None, int | None, tuple[int, ...]]:
    """Which columns hold the numbers, the names and the colour (one, or three, or none)."""
    if not header:
        return 0, 1, (2, 3, 4) if cells and len(cells[0]) >= 5 else ()

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


def _colour_of(row: Sequence[str], columns: tuple[int, ...]) -> Colour | None:
    if not columns or max(columns) >= len(row):
        return None
    if len(columns) == 3:
        return _colour(*(row[n] for n in columns))
    text = row[columns[0]].lstrip("#")
    if set(text) <= _HEX and len(text) in (6, 8):
        return int(text[:2], 16), int(text[2:4], 16), int(text[4:6], 16)
    if set(text) <= _HEX and len(text) == 3:
        return tuple(17 * int(digit, 16) for digit in text)
    numbers = re.findall(r"\d+", text)
    return _colour(*numbers[:3]) if len(numbers) >= 3 else None


_HEX = set("0123456789abcdefABCDEF")


def _colour(*channels: str) -> Colour | None:
    try:
        red, green, blue = (int(min(max(float(c), 0), 255)) for c in channels)
    except ValueError:
        return None
    return red, green, blue


def _is_whole(cell: str) -> bool:
    whole, _, fraction = cell.partition(".")
    return _is_label(whole) and (cell == whole or bool(fraction)) and not fraction.strip("0")
