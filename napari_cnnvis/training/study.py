"""The scans of a study to train on: a table, its rows checked all at once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_cnnvis.cohort.tables import (
    first_of,
    label_column,
    read_rows,
    scans_in_table,
    without_labels,
)
from napari_cnnvis.errors import VolumeError, some_of

__all__ = ["LabelledScan", "Study", "StudyProblems", "read_study"]

_SHOWN = 30


@dataclass(frozen=True)
class LabelledScan:
    """One row of a study's table.

    Attributes
    ----------
    path : Path
    label : int
        Index of its class.
    subject : str
        Whose scan it is; the scan's own name where the table does not say.
    row : int
        Line of the table.
    """

    path: Path
    label: int
    subject: str
    row: int


@dataclass(frozen=True)
class Study:
    """The scans of a study and the classes they belong to.

    Attributes
    ----------
    table : Path
    class_names : tuple of str
    scans : tuple of LabelledScan
    left_out : int
        Rows of other classes that were left out on request.
    """

    table: Path
    class_names: tuple[str, ...]
    scans: tuple[LabelledScan, ...]
    left_out: int = 0

    @property
    def labels(self) -> list[int]:
        """The class of each scan."""
        return [scan.label for scan in self.scans]

    @property
    def subjects(self) -> list[str]:
        """The subject of each scan."""
        return [scan.subject for scan in self.scans]


class StudyProblems(VolumeError):
    """Rows of a table that cannot be trained on, all of them.

    Attributes
    ----------
    problems : tuple of (int, str)
        Line of the table and what is wrong with it.
    """

    def __init__(self, table: Path, problems: Sequence[tuple[int, str]]) -> None:
        self.problems = tuple(sorted(problems))
        lines = [f"  row {row}: {text}" for row, text in self.problems[:_SHOWN]]
        more = len(self.problems) - _SHOWN
        if more > 0:
            lines.append(f"  and {more} more")
        count = len({row for row, _ in self.problems})
        rows = "1 row" if count == 1 else f"{count} rows"
        super().__init__(
            f"{rows} of {table} cannot be trained on; correct or remove them and start again:\n"
            + "\n".join(lines)
        )


def read_study(
    table: str | os.PathLike, classes: Sequence[str] | None = None, skip_other_labels: bool = False
) -> Study:
    """Read a table with the columns Path and Label, and check its rows.

    Parameters
    ----------
    table : path-like
        CSV, with commas, semicolons or tabs. Paths are absolute or relative to it. The classes
        may be in a column Diagnosis, Group or DX as well. A column Subject says whose scan it is: all scans of a subject stay on one side of
        every fold. A column Session tells the scans of a subject apart.
    classes : sequence of str, optional
        The classes in the order of the network's outputs; by default the labels in
        alphabetical order.
    skip_other_labels : bool
        Leave rows with other labels out, instead of saying that they are wrong.

    Raises
    ------
    StudyProblems
        If rows are wrong: a missing file, an unknown label, a file that occurs twice, a
        subject with two rows of one session.
    VolumeError
        If the table cannot be read, lacks a column, or has fewer than two classes.
    """
    table = Path(table)
    rows = read_rows(table, needs="path")
    columns = list(rows[0][1]) if rows else []
    if rows and label_column(columns) is None:
        raise VolumeError(
            f"{without_labels(table.name, columns)}. Name the column with the classes 'Label'."
        )
    entries = scans_in_table(table)
    found = sorted({entry.label for entry in entries if entry.label})
    classes = tuple(found if classes is None else classes)
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise VolumeError(
            f"A network tells at least two classes apart; {table.name} was read for "
            f"{some_of(classes)}. Give different ones with classes (--classes)."
        )
    problems: list[tuple[int, str]] = []
    scans, first_rows, sessions, left_out = [], {}, {}, 0
    sessions_in = first_of(("session", "session_id"), columns)
    for (number, row), entry in zip(rows, entries, strict=True):
        if entry.label not in classes:
            if skip_other_labels and entry.label:
                left_out += 1
                continue
            known = some_of(classes, entry.label)
            what = f"unknown label '{entry.label}'" if entry.label else "no label"
            problems.append((number, f"{what}; the classes are {known}"))
        if entry.problem:
            problems.append((number, f"{entry.problem}: {entry.path}"))
            continue
        place = entry.path.resolve()
        if place in first_rows:
            problems.append((number, f"the same file as row {first_rows[place]}: {entry.path}"))
            continue
        first_rows[place] = number
        visit = (entry.subject, row.get(sessions_in or "", ""))
        if sessions_in and entry.subject and visit in sessions:
            problems.append(
                (number, f"duplicate subject {visit[0]}, session {visit[1]}: row {sessions[visit]}")
            )
            continue
        sessions[visit] = number
        if entry.label in classes:
            subject = entry.subject or str(place)
            scans.append(LabelledScan(entry.path, classes.index(entry.label), subject, number))
    if problems:
        raise StudyProblems(table, problems)
    counts = Counter(scan.label for scan in scans)
    empty = [name for index, name in enumerate(classes) if not counts[index]]
    if empty:
        raise VolumeError(
            f"{table.name} has no scan of the class {some_of(empty)}; its labels are "
            f"{some_of(found) if found else 'empty'}."
        )
    return Study(table, classes, tuple(scans), left_out)
