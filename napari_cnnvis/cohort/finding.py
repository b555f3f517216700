"""Which scans a folder, a table or a file stands for."""

from __future__ import annotations

import os
from pathlib import Path

from napari_cnnvis.cohort.entries import ScanEntry, ScanList, stem
from napari_cnnvis.cohort.folders import scans_in_folder
from napari_cnnvis.cohort.tables import scans_in_table
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.scan.opening import SCAN_ENDINGS

__all__ = ["TABLE_ENDINGS", "find_scans"]

TABLE_ENDINGS = (".csv", ".tsv", ".txt")


def find_scans(path: str | os.PathLike) -> ScanList:
    """The scans of a study.

    Parameters
    ----------
    path : path-like
        A folder, which is searched with the folders in it; a tree laid out as BIDS
        asks (``sub-XX/ses-YY/anat/*_T1w.nii.gz``); a table with the columns Path
        (absolute, or relative to the table) and, where known, Label, Subject and Name;
        or a single scan.

    Returns
    -------
    ScanList
        A list of `ScanEntry`: scans of a folder by name, those of a table in its order. Files
        that are not there are listed too, with their problem. Its `notes` say what was not
        found, such as labels.

    Raises
    ------
    VolumeError
        If nothing is there, or a table has no column Path.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> from napari_cnnvis.cohort import find_scans
    >>> _ = cv.write_volume(volume, "sub-01.nii.gz"), cv.write_volume(volume, "sub-02.nii.gz")
    >>> [entry.name for entry in find_scans(".")]
    ['sub-01', 'sub-02']
    """
    path = Path(path).absolute()
    if path.is_dir():
        return scans_in_folder(path)
    if not path.exists():
        raise VolumeError(f"There is no folder or table {path}.")
    if path.name.lower().endswith(TABLE_ENDINGS):
        return scans_in_table(path)
    if path.name.lower().endswith(SCAN_ENDINGS):
        return ScanList([ScanEntry(path, stem(path))])
    raise VolumeError(
        f"{path.name} is neither a folder, a table ({', '.join(TABLE_ENDINGS)}) nor a scan "
        f"({', '.join(SCAN_ENDINGS)})."
    )
