"""Scans brought onto a network's grid once, and kept as memory-mapped files."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from napari_cnnvis.cohort.keys import scan_hash
from napari_cnnvis.errors import VolumeError, in_plain_words
from napari_cnnvis.progress import Progress
from napari_cnnvis.scan.conform import InputSpec, conform
from napari_cnnvis.scan.files import read_volume
from napari_cnnvis.training.grids import completed, other_grids, read_grid, unlike_most
from napari_cnnvis.training.study import Study, StudyProblems
from napari_cnnvis.writing import atomic_path

__all__ = ["ConformedScans"]

_FORMAT = 1


class ConformedScans(Sequence):
    """The scans of a study on a network's grid: float32 arrays (channels, i, j, k).

    They are read from files, one for each scan, that are called after the content of the
    scan and the input; memory holds only what is being used. Several processes may make
    them at once.

    Parameters
    ----------
    files : sequence of path
    spec : InputSpec
        What they were brought to.
    """

    def __init__(self, files: Sequence[Path], spec: InputSpec) -> None:
        self._files, self.spec = tuple(files), spec

    @classmethod
    def prepare(
        cls,
        study: Study,
        spec: InputSpec,
        folder: str | os.PathLike,
        progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> ConformedScans | None:
        """Conform the scans that are not in `folder` yet; None if it was cancelled.

        Where `spec` says no orientation or voxel size, those of most scans are taken.

        Raises
        ------
        StudyProblems
            If scans are damaged, hold NaN, are empty, differ in their grid where the
            input says no spacing, or are the same scan under another name.
        VolumeError
            If the folder cannot be written to.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise VolumeError(f"Cannot make the folder {folder}: {exc.strerror}.") from exc
        problems: list[tuple[int, str]] = []
        files: dict[int, Path] = {}
        rows_by_hash: dict[str, int] = {}
        grids = {scan.row: read_grid(scan.path) for scan in study.scans}
        if spec.spacing is None and not spec.steps:
            problems += other_grids(grids)
        spec = completed(spec, grids.values())
        for number, scan in enumerate(study.scans):
            if cancel is not None and cancel.is_set():
                return None
            try:
                content = scan_hash(scan.path)
                if content in rows_by_hash:
                    raise VolumeError(f"the same scan as row {rows_by_hash[content]}: {scan.path}")
                rows_by_hash[content] = scan.row
                file = folder / f"{_key(content, spec)}.npy"
                made = None if _complete(file) else _conformed(scan.path, spec)
            except Exception as exc:
                what = in_plain_words(exc, str(scan.path))
                problems.append((scan.row, what.rstrip(".")))
            else:
                if made is not None:
                    _write(file, made)
                files[scan.row] = file
            if progress is not None:
                progress(Progress(number + 1, len(study.scans), "scans prepared"))
        shapes = {row: np.load(file, mmap_mode="r").shape[1:] for row, file in files.items()}
        problems += [(row, f"{text}; give --shape") for row, text in unlike_most(shapes)]
        if problems:
            raise StudyProblems(study.table, problems)
        return cls(list(files.values()), spec)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.load(self._files[index], mmap_mode="r")


def _key(content: str, spec: InputSpec) -> str:
    about = json.dumps([_FORMAT, content, spec.to_dict()], sort_keys=True)
    return hashlib.sha256(about.encode()).hexdigest()[:32]


def _conformed(path: Path, spec: InputSpec) -> np.ndarray:
    volume = read_volume(path)
    broken = [note for note in volume.notes if "NaN" in note]
    if broken:
        raise VolumeError(f"{broken[0].replace(' and were set to 0', '')}: {path}")
    if volume.data.min() == volume.data.max():
        raise VolumeError(f"all voxels have the same value: {path}")
    return conform(volume, spec).channels


def _complete(file: Path) -> bool:
    try:
        return np.load(file, mmap_mode="r").ndim == 4
    except (OSError, ValueError):
        return False


def _write(file: Path, data: np.ndarray) -> None:
    with atomic_path(file) as temporary:
        np.save(temporary, data)
