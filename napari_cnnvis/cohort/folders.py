"""Scans that lie in a folder, or in a tree that is laid out as BIDS asks."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from napari_cnnvis.cohort.bids_labels import bids_labels
from napari_cnnvis.cohort.entries import (
    ScanEntry,
    ScanList,
    checked,
    in_natural_order,
    stem,
    with_distinct_names,
)
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.scan.opening import SCAN_ENDINGS

__all__ = ["scans_in_folder"]

#: sub-XX/ses-YY/anat/..._T1w.nii.gz
_BIDS = re.compile(r"(?:^|/)(sub-[^/]+)/(?:(ses-[^/]+)/)?anat/[^/]*_T1w\.nii(?:\.gz)?$")
#: folders of a BIDS data set whose images are not the data set's own scans
_NOT_RAW = {"derivatives", "sourcedata", "code"}


def scans_in_folder(folder: Path) -> ScanList:
    """Every scan in a folder and the folders in it.

    In a BIDS tree these are the T1-weighted images, called sub-XX_ses-YY, with their
    labels (see `bids_labels`).

    Raises
    ------
    VolumeError
        If there is none.
    """
    notes: tuple[str, ...] = ()
    files = _scan_files(folder)
    found = [(path, _BIDS.search(path.relative_to(folder.parent).as_posix())) for path in files]
    bids = [(path, match) for path, match in found if match]
    if bids:
        raw = [b for b in bids if not _NOT_RAW & set(b[0].relative_to(folder).parts)]
        entries = [
            ScanEntry(path, "_".join(filter(None, match.groups())), subject=match[1])
            for path, match in raw or bids
        ]
        sessions = [match[2] or "" for _, match in raw or bids]
        labels, notes = bids_labels(folder, entries, sessions)
        entries = [replace(e, label=label) for e, label in zip(entries, labels, strict=True)]
    else:
        entries = [ScanEntry(path, stem(path)) for path in files]
    if not entries:
        raise VolumeError(
            f"There are no scans ({', '.join(SCAN_ENDINGS)}) in {folder} or the folders in it."
        )
    entries = in_natural_order(with_distinct_names([checked(entry) for entry in entries]))
    return ScanList(entries, notes)


def _scan_files(folder: Path) -> list[Path]:
    files = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(SCAN_ENDINGS) and not name.startswith("."):
                files.append(Path(place, name))
    return files
