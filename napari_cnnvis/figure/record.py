"""The JSON beside a picture: what was drawn, of which files, so that it can be drawn again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from napari_cnnvis.errors import CnnVisError, VolumeError
from napari_cnnvis.figure.spec import FigureSpec
from napari_cnnvis.reading import read_small, source_file
from napari_cnnvis.scan.files import read_volume
from napari_cnnvis.scan.volume import Volume
from napari_cnnvis.writing import atomic_path

__all__ = ["FigureRecord", "Origin", "read_figure", "read_view", "record_path", "save_view"]

#: entry that marks a JSON file as a figure's, and its version
_KEY, _VERSION = "napari-cnnvis figure", 1


@dataclass(frozen=True)
class Origin:
    """A volume of a figure: where it was read from, and what tells it from any other.

    Attributes
    ----------
    name : str
    path : str
        "" if it was never in a file.
    index : int or None
        Which volume of a 4D file.
    sha256 : str
        Of the voxels as float32 with axes R, A, S.
    affine : tuple
        Its rows, of those axes.
    """

    name: str
    path: str
    index: int | None
    sha256: str
    affine: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, volume: Volume, path: str | os.PathLike | None = None) -> Origin:
        """Of a volume, and the file it came from where it does not say so itself."""
        source = str(volume.source if path is None else Path(path).absolute())
        file, index = source_file(source)
        ras = volume.reoriented("RAS")
        return cls(
            volume.name,
            file,
            index,
            hashlib.sha256(np.ascontiguousarray(ras.data, "<f4").tobytes()).hexdigest(),
            tuple(tuple(float(v) for v in row) for row in ras.affine),
        )

    def read(self, what: str) -> Volume:
        """The volume, if its file still holds it.

        Raises
        ------
        VolumeError
            If there is no such file, or it holds something else now.
        """
        if not self.path:
            raise VolumeError(
                f"The {what} of this figure, '{self.name}', was not in a file. Save it and give "
                "scan and map beside the figure's JSON."
            )
        volume = read_volume(self.path, self.index)
        now = Origin.of(volume, self.path)
        if now.sha256 != self.sha256 or not np.allclose(now.affine, self.affine, atol=1e-3):
            raise VolumeError(
                f"{self.path} is not what the figure was made from: its voxels or its place in "
                "space differ. Give scan and map yourself to draw the same figure of them."
            )
        return volume

    def to_dict(self, folder: Path) -> dict[str, Any]:
        """Plain values; the path is relative to `folder` where there is a way."""
        path = self.path
        if path:
            with contextlib.suppress(ValueError):  # on another drive there is no way
                path = Path(os.path.relpath(path, folder)).as_posix()
        affine = [list(row) for row in self.affine]
        return {
            "name": self.name,
            "path": path,
            "index": self.index,
            "sha256": self.sha256,
            "affine": affine,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], folder: Path) -> Origin:
        """What `to_dict` wrote."""
        path = str(values["path"])
        if path:
            path = os.path.normpath(folder / path)
            beside = folder / Path(path).name
            if not os.path.exists(path) and beside.exists():
                path = str(beside)
        index = values["index"]
        if not (index is None or isinstance(index, int)):
            raise TypeError(index)
        affine = tuple(tuple(float(v) for v in row) for row in values["affine"])
        return cls(str(values["name"]), path, index, str(values["sha256"]), affine)


@dataclass(frozen=True)
class FigureRecord:
    """A picture that was drawn.

    Attributes
    ----------
    spec : FigureSpec
    picture : Path
    scan, map : Origin
    provenance : dict
        The map's.
    limits : (float, float)
        The values at the ends of the colours.
    notes : tuple of str
    versions : dict
        Of the programs that drew it.
    """

    spec: FigureSpec
    picture: Path
    scan: Origin
    map: Origin
    provenance: dict[str, Any] = field(default_factory=dict)
    limits: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)

    def volumes(self) -> tuple[Volume, Volume]:
        """Scan and map, read again.

        Raises
        ------
        VolumeError
            If a file is gone or holds something else now.
        """
        return self.scan.read("scan"), self.map.read("map")

    def save(self) -> Path:
        """Write the JSON beside the picture."""
        path = record_path(self.picture)
        folder = path.absolute().parent
        values = {
            "picture": self.picture.name,
            "spec": self.spec.to_dict(),
            "scan": self.scan.to_dict(folder),
            "map": self.map.to_dict(folder),
            "provenance": self.provenance,
            "limits": self.limits,
            "notes": self.notes,
            "versions": self.versions or versions(),
        }
        return _write(path, values)


def save_view(picture: Path, spec: FigureSpec, view: Mapping[str, Any]) -> Path:
    """Write the JSON beside a picture of the 3D canvas; `view` is what the viewer needs for it."""
    values = {"picture": picture.name, "spec": spec.to_dict(), "view": dict(view)}
    return _write(record_path(picture), {**values, "versions": versions()})


def read_view(path: str | os.PathLike) -> tuple[FigureSpec, dict[str, Any]] | None:
    """What `save_view` wrote, or None if the JSON is of another kind."""
    values = _values(Path(path))
    if values is None or not isinstance(values.get("view"), dict) or "spec" not in values:
        return None
    return FigureSpec.from_dict(values["spec"]), values["view"]


def _write(path: Path, values: Mapping[str, Any]) -> Path:
    text = json.dumps({_KEY: _VERSION, **values}, indent=2, default=str)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return path


def versions() -> dict[str, str]:
    """Of what draws figures."""
    return {name: version(name) for name in ("napari-cnnvis", "matplotlib", "numpy")}


def record_path(picture: str | os.PathLike) -> Path:
    """Where the JSON of a picture lies: ``plate.json`` beside ``plate.png``.

    Raises
    ------
    CnnVisError
        If something else lies there, such as the record of a map.
    """
    path = Path(picture).with_suffix(".json")
    if path.exists() and _values(path) is None:
        raise CnnVisError(
            f"{path} is not a figure's; a picture called {Path(picture).name} would replace it. "
            "Choose another name for the picture."
        )
    return path


def _values(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(read_small(path))
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) and _KEY in values else None


def read_figure(path: str | os.PathLike) -> FigureRecord:
    """The record of a figure from its JSON.

    Raises
    ------
    CnnVisError
        If there is no such file or it is not a figure's.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> result = cv.grad_cam(model, volume, "lesion")
    >>> _ = cv.write_figure(volume, result, cv.FigureSpec(dpi=150), "plate.png")
    >>> cv.read_figure("plate.json").spec.dpi
    150.0
    """
    path = Path(path)
    if not path.is_file():
        raise CnnVisError(f"There is no file {path}.")
    values = _values(path)
    if values is None:
        raise CnnVisError(
            f"{path} is not the JSON of a figure; one is written beside every picture."
        )
    if "view" in values:
        raise CnnVisError(f"{path} is of a 3D view; open it in the panel Figure of napari.")
    folder = path.absolute().parent
    try:
        limits = values.get("limits")
        return FigureRecord(
            FigureSpec.from_dict(values["spec"]),
            path.with_name(Path(values["picture"]).name),
            Origin.from_dict(values["scan"], folder),
            Origin.from_dict(values["map"], folder),
            dict(values.get("provenance") or {}),
            None if limits is None else tuple(limits),
            tuple(values.get("notes") or ()),
            dict(values.get("versions") or {}),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise CnnVisError(f"{path} is damaged: a part of the figure's JSON is missing.") from exc
