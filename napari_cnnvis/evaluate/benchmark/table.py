"""The table of a localisation benchmark: scans, what is known of each, and where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_cnnvis.cohort.entries import ScanEntry
from napari_cnnvis.cohort.finding import TABLE_ENDINGS
from napari_cnnvis.cohort.run import read_scan
from napari_cnnvis.cohort.tables import read_rows, scans_in_table, shown_columns
from napari_cnnvis.errors import VolumeError, in_plain_words
from napari_cnnvis.scan.files import read_volume
from napari_cnnvis.scan.volume import Volume

__all__ = ["TRUTH", "BenchmarkScan", "ScanWithRegions", "read_benchmark_table"]

#: what the region that is known to matter is called in tables
TRUTH = "truth"
#: columns with files beside the scan's
_FILES = (TRUTH, "rois", "inside")


@dataclass(frozen=True, eq=False)
class ScanWithRegions:
    """A scan, the voxels that count, and the regions that maps of it are scored against.

    Attributes
    ----------
    volume : Volume
    inside : array of bool, shape of the scan
    regions : dict of str to array of bool
        Within ``inside``; the first is `TRUTH`.
    """

    volume: Volume
    inside: np.ndarray
    regions: dict[str, np.ndarray]


@dataclass(frozen=True)
class BenchmarkScan:
    """A row of the table.

    Attributes
    ----------
    entry : ScanEntry
    truth : Path
        The region that is known to matter: voxels above 0.
    rois : Path or None
        A label volume with other regions.
    inside : Path or None
        The voxels that count (above 0); by default those in which the scan is above 0,
        which is the brain of a skull-stripped scan.
    """

    entry: ScanEntry
    truth: Path
    rois: Path | None = None
    inside: Path | None = None

    @property
    def files(self) -> tuple[Path | None, ...]:
        """All files that the scores follow from, beside the scan's own."""
        return self.truth, self.rois, self.inside

    def read(self, rois: Mapping[str, Sequence[int]]) -> ScanWithRegions:
        """The scan with its regions.

        Parameters
        ----------
        rois : dict of str to labels

        Raises
        ------
        VolumeError
            If a file cannot be read or lies on another grid, or a region is empty or
            fills everything.
        """
        volume = read_scan(self.entry)
        inside = volume.data > 0
        if self.inside is not None:
            inside = self._on_grid(self.inside, volume) > 0
        regions = {TRUTH: self._on_grid(self.truth, volume) > 0}
        if rois and self.rois is None:
            raise VolumeError("the column Rois is empty, so that there is nothing for --roi")
        if rois:
            labels = self._on_grid(self.rois, volume)
            if (labels != np.round(labels)).any():
                raise VolumeError(
                    f"{self.rois.name} holds numbers that are not whole, so no labels"
                )
            regions.update({name: np.isin(labels, numbers) for name, numbers in rois.items()})
        regions = {name: region & inside for name, region in regions.items()}
        for name, region in regions.items():
            if not region.any():
                raise VolumeError(f"the region '{name}' has no voxel inside the brain")
            if region[inside].all():
                raise VolumeError(f"the region '{name}' fills the whole brain")
        return ScanWithRegions(volume, inside, regions)

    def _on_grid(self, path: Path, scan: Volume) -> np.ndarray:
        other = read_volume(path)
        if not other.same_grid(scan):
            raise VolumeError(
                f"{path.name} ({' x '.join(map(str, other.shape))} voxels) is not on the grid "
                f"of the scan ({' x '.join(map(str, scan.shape))})"
            )
        return other.data


def read_benchmark_table(
    path: Path | str,
    rois: Mapping[str, Sequence[int]] | None = None,
    limit: int | None = None,
) -> tuple[list[BenchmarkScan], int]:
    """The scans of a table that have a truth, after every file was read once and checked.

    Parameters
    ----------
    path : path-like
        A table with the columns Path and Truth and, where known, Rois, Inside, Label,
        Subject and Name; files are absolute, or relative to the table.
    rois : dict of str to labels, optional
        Regions that every label volume must have.
    limit : int, optional
        Take only so many scans, the first ones.

    Returns
    -------
    scans : list of BenchmarkScan
    left_out : int
        Number of rows without a truth, such as controls.

    Raises
    ------
    VolumeError
        If it is not such a table, a region is called as the truth is, or rows cannot be
        used: all of them are listed.
    """
    if TRUTH in (rois or {}):
        raise VolumeError(f"A region cannot be called '{TRUTH}', as the column is; rename it.")
    path = Path(path).absolute()
    if not path.is_file() or not path.name.lower().endswith(TABLE_ENDINGS):
        raise VolumeError(f"{path} is not a table ({', '.join(TABLE_ENDINGS)}).")
    rows = read_rows(path, needs="path")
    if rows and TRUTH not in rows[0][1]:
        raise VolumeError(
            f"{path.name} has no column 'Truth'; its columns are {shown_columns([*rows[0][1]])}. Name the "
            "column with the masks of what is known to matter 'Truth'."
        )
    scans, numbers = [], []
    for (number, row), entry in zip(rows, scans_in_table(path), strict=True):
        truth, labels, inside = (_place(path.parent, row.get(column, "")) for column in _FILES)
        if truth is not None:
            scans.append(BenchmarkScan(entry, truth, labels, inside))
            numbers.append(number)
    if not scans:
        raise VolumeError(f"{path.name} has no row with a file in the column 'Truth'.")
    left_out, scans = len(rows) - len(scans), scans[:limit]
    problems = [
        f"row {number} ({scan.entry.name}): {problem}"
        for number, scan in zip(numbers, scans, strict=False)
        for problem in _problems(scan, rois or {})
    ]
    if problems:
        raise VolumeError(
            f"{len(problems)} row(s) of {path.name} cannot be used: {'; '.join(problems)}. Correct or "
            "take out these rows."
        )
    return scans, left_out


def _problems(scan: BenchmarkScan, rois: Mapping[str, Sequence[int]]) -> Iterator[str]:
    if scan.entry.problem:
        yield scan.entry.problem
        return
    try:
        scan.read(rois)
    except Exception as exc:
        yield in_plain_words(exc, scan.entry.name).rstrip(".")


def _place(folder: Path, given: str) -> Path | None:
    return folder / Path(given).expanduser() if given else None
