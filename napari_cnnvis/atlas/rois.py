"""Regions of interest: label volumes of any atlas, with what their labels are called."""

from __future__ import annotations

import colorsys
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from napari_cnnvis.atlas.lookup_tables import (
    LookupTable,
    freesurfer_table,
    read_lookup_table,
    table_beside,
)
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.scan.axes import volumes_of
from napari_cnnvis.scan.files import ImageFile, load_image
from napari_cnnvis.scan.volume import Volume
from napari_cnnvis.scan.whole_numbers import whole_numbers

__all__ = ["Rois", "read_rois", "rois_on", "with_names"]

#: an image with more labels than this is a scan
_MOST = 20_000


@dataclass(frozen=True, eq=False)
class Rois:
    """A label volume with names.

    Attributes
    ----------
    labels : array, int32, shape (i, j, k)
        0 is no region.
    affine : array, shape (4, 4)
        Voxels to RAS mm.
    names : dict of int to str
        Of every label that there is; "region 17" where no table names it.
    colours : dict of int to (int, int, int)
        Red, green and blue (0 to 255) of every label.
    source : str
        The file.
    notes : tuple of str
        Where the names are from, and what was doubtful, in plain words.
    """

    labels: np.ndarray
    affine: np.ndarray
    names: dict[int, str]
    colours: dict[int, tuple[int, int, int]]
    source: str = ""
    notes: tuple[str, ...] = field(default=())


def read_rois(path: str | os.PathLike, table: str | os.PathLike | None = None) -> Rois:
    """Read an atlas: a label volume, and what its labels are called.

    Parameters
    ----------
    path : path-like
        NIfTI, MGH/MGZ or what else nibabel reads, with whole numbers; or 4D with one mask a
        volume, which become the labels 1, 2, 3, ... in their order.
    table : path-like, optional
        See `read_lookup_table`. By default the one beside the volume (`table_beside`); else
        FreeSurfer's names, if the labels are FreeSurfer's.

    Raises
    ------
    VolumeError
        If a file cannot be read, or does not hold labels.

    Examples
    --------
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import napari_cnnvis as cv
    >>> labels = cv.Volume(np.arange(8).reshape(2, 2, 2) % 3, np.eye(4), "labels")
    >>> _ = cv.write_volume(labels, "atlas.nii.gz")
    >>> _ = Path("atlas.csv").write_text("index,name\\n1,left\\n2,right\\n")
    >>> cv.read_rois("atlas.nii.gz").names
    {1: 'left', 2: 'right'}
    """
    path = Path(path)
    file = load_image(path)
    labels, notes = _labels_of(file, path)
    notes = (*file.notes, *notes)
    rois = Rois(labels, file.place.affine, {}, {}, str(path.absolute()))
    present = _present(labels)
    if not len(present):
        raise VolumeError(f"{path.name} has no region: all its voxels are 0.")
    if table is not None:
        return with_names(replace(rois, notes=notes), read_lookup_table(table))
    beside = table_beside(path)
    if beside is not None:
        try:
            found = read_lookup_table(beside)
        except VolumeError:
            notes = (*notes, f"{beside.name} is next to it, but names no labels.")
        else:
            if set(found.names) & set(present.tolist()):
                return with_names(replace(rois, notes=notes), found)
            notes = (*notes, f"{beside.name} is next to it, but has no names for its labels.")
    known = freesurfer_table(present.tolist(), path.name) or LookupTable({})
    return with_names(replace(rois, notes=notes), known)


def with_names(rois: Rois, table: LookupTable) -> Rois:
    """The same regions, called as a look-up table says."""
    present = _present(rois.labels).tolist()
    names = {label: table.names.get(label) or f"region {label}" for label in present}
    colours = {label: table.colours.get(label) or _some_colour(label) for label in present}
    named = sum(label in table.names for label in present)
    if not named:
        note = "No table names its regions."
    else:
        note = f"Names from {Path(table.source).name}"
        note += "." if named == len(present) else f" ({named} of {len(present)} regions)."
    return replace(rois, names=names, colours=colours, notes=(*rois.notes, note))


def rois_on(rois: Rois, volume: Volume) -> Rois:
    """The regions on the voxels of a volume, each voxel with the nearest label (0 outside).

    On the volume's own grid it is a copy. Names of regions that are lost, because none of the
    volume's voxels is nearest to one of theirs, are left out.

    Raises
    ------
    VolumeError
        If no region lies on the volume, or it is not known where the volume lies and it has
        another shape.
    """
    matrix = np.linalg.inv(rois.affine) @ volume.affine
    name = Path(rois.source).name or "The atlas"
    same_shape = rois.labels.shape == volume.shape
    if not volume.orientation_known and not same_shape:
        raise VolumeError(
            f"'{volume.name}' has no position in space, so {name} cannot be resampled to it; open "
            "the scan from its file, or resample the atlas to it first."
        )
    if same_shape and (not volume.orientation_known or np.allclose(matrix, np.eye(4), atol=1e-3)):
        return replace(rois, labels=rois.labels.copy(), affine=volume.affine.copy())
    labels = ndimage.affine_transform(
        rois.labels,
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=volume.shape,
        order=0,
        mode="grid-constant",
    )
    left = set(_present(labels).tolist())
    if not left:
        raise VolumeError(
            f"No region of {name} overlaps '{volume.name}'; both have to be in the same space. Register "
            "the atlas to the scan first."
        )
    notes = rois.notes
    if lost := len(rois.names) - len(left):
        notes = (*notes, f"{lost} of its regions are outside or fall between the scan's voxels.")
    return replace(
        rois,
        labels=labels,
        affine=volume.affine.copy(),
        names={k: v for k, v in rois.names.items() if k in left},
        colours={k: v for k, v in rois.colours.items() if k in left},
        notes=notes,
    )


def _labels_of(file: ImageFile, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as int32 from what a file holds, and what to say of them."""
    name = path.name
    data, notes = volumes_of(file.data, path)
    if data.dtype.kind not in "biuf":
        raise VolumeError(f"{name} holds colours or complex numbers, not labels.")
    if data.ndim not in (3, 4) or 0 in data.shape:
        raise VolumeError(f"{name} has shape {data.shape}; a 3D label volume is needed.")
    if data.dtype.kind == "f":
        data = np.nan_to_num(data, nan=0.0, posinf=np.inf, neginf=-np.inf)
    whole = whole_numbers(data, file.step)
    if whole is None:
        what = "It may be a scan"
        if data.min() >= 0 and data.max() <= 1:
            what = "It may hold probabilities"
        raise VolumeError(
            f"{name} does not hold labels: some of its values are no whole numbers. {what}; "
            "choose a label volume, such as the atlas's maximum probability map."
        )
    if data.dtype.kind == "f" and (off := float(np.abs(data - whole).max())):
        notes += (f"Values of {name} are up to {off:.1g} off whole numbers, and were rounded.",)
    data = whole
    if data.ndim == 4:
        labels, said = _merged_masks(data, name)
        return labels, notes + said
    limits = np.iinfo(np.int32)
    if data.min() < limits.min or data.max() > limits.max:
        raise VolumeError(f"{name} has labels beyond {limits.max}; renumber them.")
    labels = data.astype(np.int32)
    if len(_present(labels)) > _MOST:
        raise VolumeError(
            f"{name} has more than {_MOST} different values, so it seems to be a scan; choose a "
            "label volume."
        )
    return labels, notes


def _merged_masks(data: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """One label for each of the masks of a 4D file; where some overlap, the first counts."""
    if not ((data == 0) | (data == 1)).all():
        raise VolumeError(
            f"{name} holds {data.shape[3]} volumes with several labels each; choose a 3D label volume, "
            "or a 4D file with one mask a volume."
        )
    masks = data.astype(bool)
    inside = masks.any(axis=3)
    labels = np.where(inside, masks.argmax(axis=3) + 1, 0).astype(np.int32)
    twice = int((masks.sum(axis=3, dtype=np.int32) > 1).sum())
    if not twice:
        return labels, ()
    note = f"{twice} voxels are in more than one mask of {name}; they count to the first of them."
    return labels, (note,)


def _present(labels: np.ndarray) -> np.ndarray:
    """The labels that there are, rising, without 0."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > 10 * labels.size + 1_000_000:
        found = np.unique(labels)
    else:
        found = np.flatnonzero(np.bincount(labels.ravel()))
    return found[found != 0]


def _some_colour(label: int) -> tuple[int, int, int]:
    """A colour that differs from those of the labels next to it."""
    turn = (label * 0.618033988749895) % 1
    red, green, blue = colorsys.hsv_to_rgb(turn, 0.55 + 0.35 * (label % 3) / 2, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)
