"""The scans of a study: which files there are, and what is known of each."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from napari_cnnvis.reading import source_file
from napari_cnnvis.scan.opening import scan_stem

__all__ = [
    "MISSING",
    "ScanEntry",
    "ScanList",
    "checked",
    "in_natural_order",
    "stem",
    "with_distinct_names",
]

#: the problem of an entry whose file is not there
MISSING = "missing file"


@dataclass(frozen=True)
class ScanEntry:
    """One scan of a study.

    Attributes
    ----------
    path : Path
    name : str
        What it is called in tables and as a layer.
    label : str
        What the subject has, as the study says; "" if it says nothing.
    subject : str
        Whose scan it is; "" if not known.
    problem : str
        Why it cannot be read, "" if nothing is known against it.
    columns : tuple of (str, str)
        What the study's table says of it, by column.

    Examples
    --------
    >>> from pathlib import Path
    >>> ScanEntry(Path("sub-01.nii.gz"), "sub-01", label="AD").label
    'AD'
    """

    path: Path
    name: str
    label: str = ""
    subject: str = ""
    problem: str = ""
    columns: tuple[tuple[str, str], ...] = ()


class ScanList(list[ScanEntry]):
    """The scans of a study, and what a user should know of how they and their labels were found.

    Attributes
    ----------
    notes : tuple of str
        In plain words, such as that a table has no column with labels.

    Examples
    --------
    >>> ScanList([], ("No labels.",)).notes
    ('No labels.',)
    """

    def __init__(self, entries: Iterable[ScanEntry] = (), notes: Iterable[str] = ()) -> None:
        super().__init__(entries)
        self.notes = tuple(notes)


def stem(path: Path) -> str:
    """A file's name without the ending of a scan; "run#1" for volume 1 of a 4D file."""
    file, number = source_file(str(path))
    return scan_stem(file) + ("" if number is None else f"#{number}")


def checked(entry: ScanEntry) -> ScanEntry:
    """The entry, with its problem if its file is not there."""
    if entry.problem or Path(source_file(str(entry.path))[0]).is_file():
        return entry
    return replace(entry, problem="a folder, not a file" if entry.path.is_dir() else MISSING)


def with_distinct_names(entries: Sequence[ScanEntry]) -> list[ScanEntry]:
    """The entries; names that occur more than once are replaced by as much of the path as differs."""
    counts = Counter(entry.name for entry in entries)
    twice = [entry.path for entry in entries if counts[entry.name] > 1]
    if len(set(twice)) < 2:
        return list(entries)
    root = os.path.commonpath([path.parent for path in twice])
    return [
        entry
        if counts[entry.name] == 1
        else replace(
            entry, name=Path(os.path.relpath(entry.path.parent, root), stem(entry.path)).as_posix()
        )
        for entry in entries
    ]


def in_natural_order(entries: Sequence[ScanEntry]) -> list[ScanEntry]:
    """Sorted by name, numbers by value: sub-2 before sub-10."""

    def key(entry: ScanEntry) -> list[tuple[int, int, str]]:
        parts = re.split(r"(\d+)", f"{entry.name} {entry.path}".lower())
        return [(0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts]

    return sorted(entries, key=key)
