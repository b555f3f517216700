"""Look-up tables: names and colours of an atlas's labels, from the files that atlases come with."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from napari_cnnvis.atlas.column_rows import column_rows
from napari_cnnvis.atlas.freesurfer_labels import freesurfer_labels
from napari_cnnvis.atlas.plain_rows import Colour, plain_rows
from napari_cnnvis.atlas.xml_rows import xml_rows
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.reading import check_plain, decoded

__all__ = ["LookupTable", "freesurfer_table", "read_lookup_table", "table_beside"]

#: endings of the files that are looked for beside a label volume
_ENDINGS = (".tsv", ".txt", ".csv", ".label", ".lut", ".ctab", ".ctbl", ".xml")
#: how far up a table of a BIDS data set may lie
_BIDS_LEVELS = 4
#: bytes of a table, and letters of a line
_TEXT_LIMIT, _LINE_LIMIT = 1_000_000, 20_000
#: lines that begin with these say nothing of a label
_COMMENTS = ("#", "//", "%")


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
        FreeSurfer's ``FreeSurferColorLUT.txt`` and its like, also with tissue types; a BIDS
        ``_dseg.tsv`` (columns index, name, perhaps color); the .csv of CAT12 (ROIid, ROIname); a
        label description of ITK-SNAP or FSLeyes; the .xml of SPM, CAT12 and FSL; a table with
        a header (tab, comma, semicolon); or lines with a number and a name. Comments are left out.

    Raises
    ------
    VolumeError
        If there is no such file, no line of it names a label, or a column is missing.
    """
    path = Path(path)
    text = _text_of(path)
    written = [line for line in text.splitlines() if line.strip()]
    if max(map(len, written), default=0) > _LINE_LIMIT:
        raise VolumeError(
            f"{path.name} has lines of more than {_LINE_LIMIT:,} letters, so it is no look-up table; "
            "choose a text file with a label a line."
        )
    if text.lstrip().startswith("<"):
        rows = xml_rows(text.lstrip(), path.name)
    else:
        before = list(itertools.takewhile(_is_comment, written))
        lines = [line for line in written if not _is_comment(line)]
        stripped = [line.strip() for line in lines]
        rows = plain_rows(stripped) or column_rows(lines, before, path.name)
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


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith(_COMMENTS)


def _text_of(path: Path) -> str:
    check_plain(path, "a look-up table, a text file")
    try:
        if path.stat().st_size > _TEXT_LIMIT:
            raise VolumeError(f"{path.name} is too large for a look-up table; choose a text file.")
        text = decoded(path.read_bytes())
    except OSError as exc:
        raise VolumeError(f"Cannot read {path}: {exc.strerror or exc}.") from exc
    if "\0" in text:
        raise VolumeError(
            f"{path.name} is no text file; choose a look-up table such as FreeSurferColorLUT.txt or "
            "a .tsv with the columns index and name."
        )
    return text
