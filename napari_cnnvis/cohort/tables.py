"""Scans that a table lists: one row for each, with the columns Path and, where known, Label."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from napari_cnnvis.cohort.entries import ScanEntry, checked, stem, with_distinct_names
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.reading import check_plain

__all__ = ["read_rows", "scans_in_table"]

_SEPARATORS = ",;\t"


def scans_in_table(path: Path) -> list[ScanEntry]:
    """The scans of a table with a column Path and, where known, Label, Subject and Name.

    Paths are absolute or relative to the table; columns are separated by commas,
    semicolons or tabs. A row without a usable file is kept, with its problem.

    Raises
    ------
    VolumeError
        If the file is not such a table or has no rows.
    """
    rows = read_rows(path, needs="path")
    if not rows:
        raise VolumeError(f"{path.name} has a header but no rows; list one scan a row.")
    entries = []
    for number, row in rows:
        given = row["path"]
        if given:
            place = _place(path.parent, given)
            entry = ScanEntry(place, row.get("name") or stem(place))
        else:
            name = row.get("name") or f"row {number}"
            entry = ScanEntry(path.parent, name, problem=f"no path in row {number}")
        entries.append(
            checked(
                ScanEntry(
                    entry.path,
                    entry.name,
                    row.get("label", ""),
                    row.get("subject", ""),
                    entry.problem,
                )
            )
        )
    return with_distinct_names(entries)


def read_rows(path: Path, needs: str) -> list[tuple[int, dict[str, str]]]:
    """The rows of a table that are not empty: their number in the file, and values by column.

    Column names are in lower case; cells that a short row lacks are "".

    Raises
    ------
    VolumeError
        If it cannot be read or has no column `needs`.
    """
    text = _text(path)
    header = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(_SEPARATORS, key=lambda s: (needs in _columns(header, s), header.count(s)))
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as exc:
        raise VolumeError(
            f"{path.name} is not a table that can be read ({exc}); save it as CSV again."
        ) from exc
    numbered = [(n, line) for n, line in enumerate(lines, 1) if any(c.strip() for c in line)]
    names = [c.strip() for c in numbered[0][1]] if numbered else []
    columns = [name.lower() for name in names]
    if needs not in columns:
        known = ", ".join(f"'{name}'" for name in names) or "none"
        remedy = "Name the column with the scans' files 'Path'"
        if "participant_id" in columns:
            remedy += ", or open the folder that this table is in"
        raise VolumeError(
            f"{path.name} has no column '{needs.capitalize()}'; its columns are {known}. {remedy}."
        )
    return [
        (n, {c: line[i].strip() if i < len(line) else "" for i, c in reversed([*enumerate(columns)])})
        for n, line in numbered[1:]
    ]  # fmt: skip


def _columns(header: str, separator: str) -> list[str]:
    return [part.strip().strip('"').lower() for part in header.split(separator)]


def _text(path: Path) -> str:
    check_plain(path, "a table, a CSV file")
    try:
        raw = path.read_bytes()
    except OSError as exc:
        raise VolumeError(f"{path} cannot be read: {exc.strerror or exc}.") from exc
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = raw.decode("utf-16", errors="replace")
    else:
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = raw.decode("cp1252", errors="replace")  # as Excel saves it
    if "\0" in text:
        raise VolumeError(f"{path.name} is not a table of text; choose a CSV file.")
    return text


def _place(folder: Path, given: str) -> Path:
    place = folder / Path(given).expanduser()
    if "\\" in given and not place.exists():  # written on Windows
        place = folder / given.replace("\\", "/")
    return place
