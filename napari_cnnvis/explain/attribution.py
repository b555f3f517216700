"""What every method gives: the attribution map with its place and its provenance."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.explain.record import Record, is_record, read_record
from napari_cnnvis.scan.files import WRITABLE, check_writable, read_volume, write_volume
from napari_cnnvis.scan.volume import Volume
from napari_cnnvis.writing import PYTHON, atomic_path, check_output, companion, is_same_file

__all__ = ["Attribution", "check_map"]


@dataclass(frozen=True, eq=False)
class Attribution:
    """An attribution map on the scan's own grid.

    Attributes
    ----------
    data : array, float32, shape of the scan
        Raw and signed; positive voxels support the class that is explained.
        0 where the model saw nothing.
    affine : array, shape (4, 4)
        The scan's affine.
    record : Record or mapping
        Method, its parameters, model, scan, versions and time.
    native : array or None
        The map on the target layer's own grid, before interpolation.
    partial : bool
        True if the run was cancelled before it was complete.
    notes : tuple of str
        What a reader of the map should know.
    source : Volume
        The scan.
    regions : RegionScores or None
        For sensitivity: the scores of every region, from which other maps follow
        without running the network again.
    nearest : callable or None
        Gives the map with each voxel taken from the nearest cell of the layer, not
        interpolated.
    cell_grid : dict or None
        Where the cells lie: "affine" and "shape" of the model's grid, the layer's "grid"
        on it (a `LayerGrid`), and the "alignment".
    voxels : VoxelValues or None
        For gradients of the input: the values as they are, from which the map is drawn with
        another sign or smoothing.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> result = cv.grad_cam(model, volume, "lesion")
    >>> result.save("lesion.nii.gz").name
    'lesion.nii.gz'
    >>> cv.Attribution.load("lesion.nii.gz").provenance["method"]
    'Grad-CAM'
    """

    data: np.ndarray
    affine: np.ndarray
    record: Record
    source: Volume
    native: np.ndarray | None = None
    partial: bool = False
    notes: tuple[str, ...] = ()
    regions: Any = None
    nearest: Callable[[], np.ndarray] | None = None
    cell_grid: dict[str, Any] | None = None
    voxels: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.record, Record):
            object.__setattr__(self, "record", Record(self.record))

    def __repr__(self) -> str:
        voxels = " x ".join(map(str, self.data.shape))
        low, high = float(self.data.min()), float(self.data.max())
        return f"Attribution({self.name}, {voxels} voxels, {low:.3g} to {high:.3g})"

    @property
    def provenance(self) -> dict[str, Any]:
        """The record as a dictionary of plain values."""
        return dict(self.record.values)

    @property
    def name(self) -> str:
        """Method, class and layer or baseline, as a layer of the viewer is called."""
        return self.record.title + (" (partial)" if self.partial else "")

    @classmethod
    def load(cls, path: str | os.PathLike) -> Attribution:
        """A map that `save` wrote, with its record from the JSON beside it.

        Its ``source`` is the map's own volume; scores of regions are not kept in files.

        Raises
        ------
        VolumeError
            If a file is missing or damaged.
        MethodError
            If a part of the record is none that a run writes.
        """
        volume = read_volume(path)
        record = read_record(path)
        if record is None:
            raise VolumeError(
                f"{companion(path)}, which should hold the record of {Path(path).name}, is missing or "
                "damaged; a map is saved as two files that belong together."
            )
        values = dict(record.values)
        notes, partial = tuple(values.pop("notes", ())), values.pop("partial", False)
        record = Record(values)
        return cls(volume.data, volume.affine, record, volume, partial=partial, notes=notes)

    def save(self, path: str | os.PathLike, overwrite: bool = False) -> Path:
        """Write the map as float32 NIfTI or MGH, and its provenance as JSON beside it.

        ``map.nii.gz`` gets ``map.json``; orientation, sform and qform are the scan's.

        Parameters
        ----------
        path : path-like
        overwrite : bool
            Replace a map that is there; never what this map was made from.

        Raises
        ------
        VolumeError
            If the file cannot be written, or see `check_map`.
        """
        path = check_map(path, self.record.files, overwrite)
        volume = Volume(
            self.data,
            self.affine,
            self.name,
            self.source.header,
            self.source.orientation_known,
        )
        write_volume(volume, path, overwrite=True)
        with atomic_path(companion(path)) as temporary:
            whole = self.record.with_values(partial=self.partial, notes=list(self.notes))
            temporary.write_text(whole.to_json())
        return path


def check_map(
    path: str | os.PathLike,
    inputs: Iterable[str | os.PathLike | None] = (),
    overwrite: bool = False,
    how: str = PYTHON,
) -> Path:
    """The path, if a map and its record can be written there; to be asked before a long run.

    Parameters
    ----------
    path, inputs, overwrite, how
        See `check_output`.

    Raises
    ------
    VolumeError
        If they cannot: see `check_writable`. Neither is a JSON replaced that is not a map's
        record, or that belongs to another image.
    """
    inputs = list(inputs)
    path = check_writable(path, inputs, overwrite, how)

    def own(record: Path) -> bool:
        others = (path.with_name(record.stem + ending) for ending in WRITABLE)
        alone = not any(os.path.lexists(o) and not is_same_file(o, path) for o in others)
        return alone and is_record(record)

    check_output(companion(path), inputs, overwrite, how, own)
    return path
