"""What the subjects of a BIDS tree have, by its tables: for each subject, session or scan."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_cnnvis.cohort.entries import ScanEntry
from napari_cnnvis.cohort.tables import (
    SUBJECT_COLUMNS,
    first_of,
    label_column,
    read_rows,
    without_labels,
)
from napari_cnnvis.errors import VolumeError, some_of

__all__ = ["bids_labels"]

_PARTICIPANTS = ("participants.tsv", "participants.csv")
_IDS = ("participant_id", *(c for c in SUBJECT_COLUMNS if c != "participant_id"), "sub", "id")
_SESSIONS = ("session_id", "session", "ses", "visit_id", "visit", "timepoint")
#: what stands for no label
_ABSENT = {"", "n/a", "nan"}
#: so many folders above the one that was opened may have participants.tsv
_LEVELS_UP = 3
#: names that a note gives
_SHOWN = 3


def bids_labels(
    folder: Path, entries: Sequence[ScanEntry], sessions: Sequence[str]
) -> tuple[list[str], tuple[str, ...]]:
    """The label of each scan of a BIDS tree, "" where none is known, and what to say of them.

    Parameters
    ----------
    folder : Path
        That was opened; ``participants.tsv`` is in it, or above it (for a subject's folder, or
        derivatives). It may have a row for each subject, or for each session of one.
    entries : sequence of ScanEntry
        Their subjects are called as their folders are, such as "sub-01".
    sessions : sequence of str
        Of each scan, such as "ses-M00"; "" where there are none. A ``sub-01_sessions.tsv`` or
        ``sub-01_ses-M00_scans.tsv`` counts before participants.tsv.

    Returns
    -------
    list of str
    tuple of str
        Which tables have no column with labels, and which columns they have; scans without
        a label; labels that contradict each other.
    """
    places = (folder, *folder.parents[:_LEVELS_UP])
    tables = (place / name for place in places for name in _PARTICIPANTS)
    table = next((table for table in tables if table.is_file()), folder / _PARTICIPANTS[0])
    root, notes = table.parent, _Notes()
    participants = _Labels.read(table, notes)
    by_session: dict[Path, _Labels] = {}
    by_scan: dict[Path, dict[str, str]] = {}
    labels = []
    for entry, session in zip(entries, sessions, strict=True):
        label = ""
        for file in _tables_of(entry, session, root, "scans"):
            if file not in by_scan:
                by_scan[file] = _by_filename(file, notes)
            label = label or by_scan[file].get(entry.path.relative_to(file.parent).as_posix(), "")
        for file in _tables_of(entry, "", root, "sessions"):
            if file not in by_session:
                by_session[file] = _Labels.read(file, notes, entry.subject)
            label = label or by_session[file].label(entry.subject, session, notes)
        labels.append(label or participants.label(entry.subject, session, notes))
    known = any(labels)
    without = [entry.name for entry, label in zip(entries, labels, strict=True) if not label]
    if known and without:
        notes.add(
            f"{len(without)} of {len(labels)} scans have no label: {some_of(without, most=_SHOWN)}."
        )
    return labels, notes.all(known)


def _tables_of(entry: ScanEntry, session: str, root: Path, kind: str) -> list[Path]:
    """The tables of a subject or session that are there, the nearest to the scan first."""
    subject = next((p for p in entry.path.parents if p.name == entry.subject), None)
    folders = [] if subject is None else [subject]
    if kind == "sessions" and root / entry.subject not in folders:
        folders.append(root / entry.subject)
    parts = [entry.subject, *([session] if session else []), kind]
    files = [place / session / f"{'_'.join(parts)}.tsv" for place in folders]
    return [file for file in files if file.is_file()]


class _Notes:
    """What to say, each thing once; what is missing is only said where nothing else has labels."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._missing: list[str] = []

    def add(self, text: str) -> None:
        self._said.append(text)

    def add_missing(self, text: str) -> None:
        self._missing.append(text)

    def all(self, known: bool) -> tuple[str, ...]:
        missing = [] if known else self._missing
        shown = [f"{text}, so the scans have no labels." for text in dict.fromkeys(missing)]
        return tuple(dict.fromkeys((*shown[:_SHOWN], *self._said)))


@dataclass(frozen=True)
class _Labels:
    """The labels of a table, by subject and session without their prefixes; "" is any session."""

    name: str
    rows: dict[str, dict[str, set[str]]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, notes: _Notes, subject: str = "") -> _Labels:
        """Those of a table, which is all about `subject` if that is given."""
        table = cls(path.name)
        if not path.is_file():
            return table
        try:
            rows = read_rows(path, needs=_SESSIONS if subject else _IDS)
        except VolumeError as exc:
            notes.add(str(exc))
            return table
        columns = list(rows[0][1]) if rows else []
        labels = label_column(columns)
        if labels is None:
            if columns:
                notes.add_missing(without_labels(path.name, columns))
            return table
        ids, sessions = first_of(_IDS, columns), first_of(_SESSIONS, columns)
        for _, row in rows:
            label = row[labels]
            if label.casefold() not in _ABSENT:
                whose = _plain(subject or row[ids or ""], "sub")
                session = _plain(row[sessions], "ses") if sessions else ""
                table.rows.setdefault(whose, {}).setdefault(session, set()).add(label)
        return table

    def label(self, subject: str, session: str, notes: _Notes) -> str:
        """That of a subject's session; "" if none is known, or several are."""
        of_subject = self._find(self.rows, _plain(subject, "sub"), notes)
        if not of_subject:
            return ""
        if session:
            found = self._find(of_subject, _plain(session, "ses"), notes)
            found = found or of_subject.get("", set())
        else:
            found = set().union(*of_subject.values())
        if len(found) > 1:
            which = f"{subject}, {session}" if session else subject
            what = ", ".join(sorted(found)[:_SHOWN])
            notes.add(f"{self.name} has several labels for {which} ({what}), so none is taken.")
            return ""
        return next(iter(found), "")

    def _find(self, rows: dict[str, Any], name: str, notes: _Notes) -> Any:
        """What there is of a name; where that lacks, of the one with other leading zeros."""
        if name in rows:
            return rows[name]
        alike = [key for key in rows if _without_zeros(key) == _without_zeros(name)]
        if len(alike) != 1:
            return None
        notes.add(f"{self.name} was read without the leading zeros of its names.")
        return rows[alike[0]]


def _plain(name: str, prefix: str) -> str:
    """A name of a subject or session without "sub-" or "ses-", whatever its case."""
    name = name.strip().casefold()
    for mark in "-_":
        name = name.removeprefix(prefix + mark)
    return re.sub(r"^(\d+)\.0$", r"\1", name)  # a number, as some programs write it


def _without_zeros(name: str) -> str:
    return re.sub(r"\d+", lambda digits: digits[0].lstrip("0") or "0", name)


def _by_filename(path: Path, notes: _Notes) -> dict[str, str]:
    """The labels of a table of scans by their file; most of these have none."""
    try:
        rows = read_rows(path, needs="filename")
    except VolumeError as exc:
        notes.add(str(exc))
        return {}
    labels = label_column(list(rows[0][1])) if rows else None
    if labels is None:
        return {}
    named = ((row["filename"], row[labels]) for _, row in rows)
    return {file: label for file, label in named if label.casefold() not in _ABSENT}
