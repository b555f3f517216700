"""Scans that a table lists: one row for each, with the columns Path and, where known, Label."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from napari_cnnvis.cohort.entries import ScanEntry, ScanList, checked, stem, with_distinct_names
from napari_cnnvis.errors import VolumeError, shortened, some_of
from napari_cnnvis.reading import check_plain, decoded

__all__ = [
    "LABEL_COLUMNS",
    "SUBJECT_COLUMNS",
    "first_of",
    "label_column",
    "read_rows",
    "scans_in_table",
    "shown_columns",
    "without_labels",
]

#: columns that say what a subject has, the first that is there counts
LABEL_COLUMNS = ("label", "diagnosis", "group", "dx")
#: columns that say whose scan it is
SUBJECT_COLUMNS = ("subject", "participant_id", "subject_id", "participant")
_SEPARATORS = ",;\t|"
#: with which lines begin that are no rows, and what a header may begin with all the same
_COMMENTS, _COMMENT_MARKS = ("#", "//", "%"), "#/% "
#: lines before the header
_LONGEST_PREAMBLE = 30
#: columns that a message names
_SHOWN = 8


def scans_in_table(path: Path) -> ScanList:
    """The scans of a table with a column Path and, where known, Label, Subject and Name.

    Paths are absolute or relative to the table; columns are separated by commas,
    semicolons or tabs. A row without a usable file is kept, with its problem. Labels may be in
    a column of another usual name (`LABEL_COLUMNS`); which, or that there is none, is noted.

    Raises
    ------
    VolumeError
        If the file is not such a table or has no rows.
    """
    rows = read_rows(path, needs="path")
    if not rows:
        raise VolumeError(f"{path.name} has a header but no rows; list one scan a row.")
    columns = list(rows[0][1])
    labels, subjects = label_column(columns), first_of(SUBJECT_COLUMNS, columns)
    entries = []
    for number, row in rows:
        given = row["path"]
        if given:
            place = _place(path.parent, given)
            entry = ScanEntry(place, row.get("name") or stem(place))
        else:
            name = row.get("name") or f"row {number}"
            entry = ScanEntry(path.parent, name, problem=f"no path in row {number}")
        label, subject = row.get(labels or "", ""), row.get(subjects or "", "")
        entries.append(
            checked(replace(entry, label=label, subject=subject, columns=tuple(row.items())))
        )
    notes = []
    if labels is None:
        notes.append(f"{without_labels(path.name, columns)}, so its scans have no labels.")
    elif labels != LABEL_COLUMNS[0]:
        notes.append(f"The labels are those of the column '{labels}' of {path.name}.")
    return ScanList(with_distinct_names(entries), notes)


def label_column(columns: Sequence[str]) -> str | None:
    """The column of a table that says what a scan's subject has, or None."""
    return first_of(LABEL_COLUMNS, columns)


def first_of(names: Sequence[str], columns: Sequence[str]) -> str | None:
    """The first of some names that is among the columns, or None."""
    return next((name for name in names if name in columns), None)


def without_labels(name: str, columns: Sequence[str]) -> str:
    """That a table has no column with labels, and which columns it has."""
    others = "(nor 'Diagnosis', 'Group' or 'DX')"
    return f"{name} has no column 'Label' {others}; its columns are {shown_columns(columns)}"


def shown_columns(columns: Sequence[str]) -> str:
    """The names of a table's columns, as a message shows them: a few, in quotes."""
    return some_of((f"'{shortened(name, 40)}'" for name in columns), most=_SHOWN)


def read_rows(path: Path, needs: str | Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """The rows of a table that are not empty: their number in the file, and values by column.

    Column names are in lower case; cells that a short row lacks are "". What stands before the
    header, such as "sep=;" and comments, is left out, and so are lines that begin with "#".

    Parameters
    ----------
    path : Path
    needs : str or sequence of str
        A column that the table must have, or several names of it.

    Raises
    ------
    VolumeError
        If it cannot be read or has no column `needs`.
    """
    wanted = (needs,) if isinstance(needs, str) else tuple(needs)
    table = _Layout.of(list(io.StringIO(_text(path), newline="")), wanted)
    try:
        reader = csv.reader(table.lines, delimiter=table.separator)
        numbered = [(n, line) for n, line in enumerate(reader, 1) if any(c.strip() for c in line)]
    except csv.Error as exc:
        raise VolumeError(
            f"{path.name} is not a table that can be read ({exc}); save it as CSV again."
        ) from exc
    names = [c.strip() for c in numbered[0][1]] if numbered else []
    columns = [name.lower() for name in names]
    if first_of(wanted, columns) is None:
        missing, remedy = wanted[0], "Name the column that holds it so"
        if missing == "path":
            missing, remedy = "Path", "Name the column with the scans' files 'Path'"
            if "participant_id" in columns:
                remedy += ", or open the folder that this table is in"
        raise VolumeError(
            f"{path.name} has no column '{missing}'; its columns are {shown_columns(names)}. {remedy}."
        )
    places = {c: columns.index(c) for c in columns}
    return [
        (n, {c: line[i].strip() if i < len(line) else "" for c, i in places.items()})
        for n, line in numbered[1:]
    ]


@dataclass(frozen=True)
class _Layout:
    """Where a table begins, and what separates its columns.

    Attributes
    ----------
    lines : list of str
        Of the file; those that are not the table's are empty, so that numbers of rows stay.
    separator : str
    """

    lines: list[str]
    separator: str

    @classmethod
    def of(cls, lines: list[str], wanted: Sequence[str]) -> _Layout:
        """That of a file that should have one of the columns `wanted`."""
        given, first = "", None
        for place, line in enumerate(lines[:_LONGEST_PREAMBLE]):
            if not given and line.lower().startswith("sep="):  # for Excel
                given = line[4:5]
                continue
            found = _separator(line.lstrip(_COMMENT_MARKS), wanted)
            if found is not None:
                return cls._from(place, lines, given.strip("\r\n") or found)
            if first is None and line.strip() and not line.lstrip().startswith(_COMMENTS):
                first = place
        place = len(lines) if first is None else first
        header = lines[place] if place < len(lines) else ""
        return cls._from(place, lines, given.strip("\r\n") or max(_SEPARATORS, key=header.count))

    @classmethod
    def _from(cls, place: int, lines: list[str], separator: str) -> _Layout:
        header = [line.lstrip(_COMMENT_MARKS) for line in lines[place : place + 1]]
        rows = ["\n" if line.startswith("#") else line for line in lines[place + 1 :]]
        return cls(["\n"] * place + header + rows, separator)


def _separator(header: str, wanted: Sequence[str]) -> str | None:
    """What separates the columns of a header that has one of these, or None."""
    fitting = [
        separator
        for separator in _SEPARATORS
        if set(wanted) & {part.strip().strip('"').lower() for part in header.split(separator)}
    ]
    return max(fitting, key=header.count) if fitting else None


def _text(path: Path) -> str:
    check_plain(path, "a table, a CSV file")
    try:
        text = decoded(path.read_bytes())
    except OSError as exc:
        raise VolumeError(f"{path} cannot be read: {exc.strerror or exc}.") from exc
    if "\0" in text:
        raise VolumeError(f"{path.name} is not a table of text; choose a CSV file.")
    return text


def _place(folder: Path, given: str) -> Path:
    place = folder / Path(given).expanduser()
    if "\\" in given and not place.exists():  # written on Windows
        place = folder / given.replace("\\", "/")
    return place
