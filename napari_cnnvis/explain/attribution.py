"""What every method gives: the attribution map with its place and its provenance."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.explain.record import is_record, read_record
from napari_cnnvis.models.model import Model
from napari_cnnvis.reading import source_file
from napari_cnnvis.scan.conform import Conformed
from napari_cnnvis.scan.files import WRITABLE, check_writable, read_volume, write_volume
from napari_cnnvis.scan.volume import Scan, Volume, channels_of
from napari_cnnvis.writing import PYTHON, atomic_path, check_output, companion, is_same_file

__all__ = ["Attribution", "check_map", "inputs_of", "provenance_of"]


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
    provenance : dict
        Method, its parameters, model, scan, versions and time, as plain values.
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
    """

    data: np.ndarray
    affine: np.ndarray
    provenance: dict[str, Any]
    source: Volume
    native: np.ndarray | None = None
    partial: bool = False
    notes: tuple[str, ...] = ()
    regions: Any = None
    nearest: Callable[[], np.ndarray] | None = None
    cell_grid: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """Method, class and layer or baseline, as a layer of the viewer is called."""
        p = self.provenance
        parts = [p["method"], p["class_name"], p.get("layer") or p.get("shown") or ""]
        return " · ".join(filter(None, parts)) + (" (partial)" if self.partial else "")

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
        notes, partial = tuple(record.pop("notes", ())), record.pop("partial", False)
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
        path = check_map(path, inputs_of(self.provenance), overwrite)
        volume = Volume(
            self.data,
            self.affine,
            self.name,
            self.source.header,
            self.source.orientation_known,
        )
        write_volume(volume, path, overwrite=True)
        with atomic_path(companion(path)) as temporary:
            temporary.write_text(
                json.dumps(
                    {**self.provenance, "partial": self.partial, "notes": self.notes}, indent=2
                )
                + "\n"
            )
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


def inputs_of(provenance: Mapping[str, Any]) -> list[str]:
    """The files that a map was made from, as far as its record says."""
    scan, baselines, model, hierarchy = (
        part if isinstance(part := provenance.get(name), Mapping) else {}
        for name in ("scan", "baseline_sources", "model", "hierarchy")
    )
    others = [
        other.get("source")
        for other in _list(scan.get("other_channels"))
        if isinstance(other, Mapping)
    ]
    sources = [scan.get("source"), *others, *baselines.values()]
    files = [source_file(source)[0] for source in sources if isinstance(source, str)]
    more = [model.get("path"), *_list(hierarchy.get("files"))]
    return [one for one in (*files, *more) if isinstance(one, str) and one]


def _list(value: Any) -> list[Any]:
    """A list of a record, and nothing for what is none."""
    return list(value) if isinstance(value, list | tuple) else []


def provenance_of(
    model: Model, volume: Scan, conformed: Conformed, method: str, target: int, **parameters: Any
) -> dict[str, Any]:
    """The record that goes with a map: everything needed to make it again, as plain values."""
    first, *others = channels_of(volume)
    more = {"other_channels": [_place(other) for other in others]} if others else {}
    return {
        "method": method,
        "class": target,
        "class_name": model.class_names[target],
        **parameters,
        "model": {
            "architecture": model.architecture,
            "path": model.path,
            "arch": model.arch,
            "class_names": list(model.class_names),
            "names": list(model.names),
            "weights_sha256": model.weights_hash(),
            "output": model.outputs.kind,
            "input": model.input_spec.to_dict(),
            "grid": list(conformed.data.shape),
            "device": str(model.device),
        },
        "scan": {**_place(first), "shape": list(first.shape), **more},
        "versions": {name: version(name) for name in ("napari-cnnvis", "torch", "numpy")},
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _place(volume: Volume) -> dict[str, Any]:
    """Name, file and axes of a volume."""
    return {
        "name": volume.name,
        "source": volume.source,
        "axes": volume.orientation,
        "stored_axes": volume.stored_orientation or volume.orientation,
    }
