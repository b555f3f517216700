"""Scans that lie in a folder, or in a tree that is laid out as BIDS asks."""

from __future__ import annotations

import os
import re
from pathlib import Path

from napari_cnnvis.cohort.entries import (
    ScanEntry,
    checked,
    in_natural_order,
    stem,
    with_distinct_names,
)
from napari_cnnvis.cohort.tables import read_rows
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.scan.opening import SCAN_ENDINGS

__all__ = ["scans_in_folder"]

#: sub-XX/ses-YY/anat/..._T1w.nii.gz
_BIDS = re.compile(r"(?:^|/)(sub-[^/]+)/(?:(ses-[^/]+)/)?anat/[^/]*_T1w\.nii(?:\.gz)?$")
#: columns of participants.tsv that say what a subject has, the first that is there counts
_LABELS = ("label", "diagnosis", "group", "dx")
#: folders of a BIDS data set whose images are not the data set's own scans
_NOT_RAW = {"derivatives", "sourcedata", "code"}


def scans_in_folder(folder: Path) -> list[ScanEntry]:
    """Every scan in a folder and the folders in it.

    In a BIDS tree these are the T1-weighted images, called sub-XX_ses-YY, with labels
    of ``participants.tsv`` where it has a column label, diagnosis, group or dx.

    Raises
    ------
    VolumeError
        If there is none.
    """
    files = _scan_files(folder)
    found = [(path, _BIDS.search(path.relative_to(folder.parent).as_posix())) for path in files]
    bids = [(path, match) for path, match in found if match]
    if bids:
        raw = [b for b in bids if not _NOT_RAW & set(b[0].relative_to(folder).parts)]
        labels = _participants(folder)
        entries = [
            ScanEntry(path, "_".join(filter(None, m.groups())), labels.get(m[1], ""), m[1])
            for path, m in raw or bids
        ]
    else:
        entries = [ScanEntry(path, stem(path)) for path in files]
    if not entries:
        raise VolumeError(
            f"There are no scans ({', '.join(SCAN_ENDINGS)}) in {folder} or the folders in it."
        )
    return in_natural_order(with_distinct_names([checked(entry) for entry in entries]))


def _scan_files(folder: Path) -> list[Path]:
    files = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(SCAN_ENDINGS) and not name.startswith("."):
                files.append(Path(place, name))
    return files


def _participants(folder: Path) -> dict[str, str]:
    """Label of each subject; none where the table is not there or not of this kind."""
    path = folder / "participants.tsv"
    try:
        rows = read_rows(path, needs="participant_id")
    except VolumeError:
        return {}
    column = next((c for c in _LABELS if rows and c in rows[0][1]), None)
    if column is None:
        return {}
    absent = ("", "n/a")
    return {row["participant_id"]: row[column] for _, row in rows if row[column] not in absent}
