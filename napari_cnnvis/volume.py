"""A volume: an image with its affine, as it lies in the scanner's space.

Arrays are indexed [i, j, k]; the affine takes voxel indices to millimetres in
RAS space (x to the patient's right, y to the front, z to the top), as in NIfTI.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt2axcodes,
    ornt_transform,
)

from napari_cnnvis.errors import VolumeError, shortened
from napari_cnnvis.headers import (
    affine_in_mm,
    affine_in_unit,
    check_extensions,
    check_size,
    orientation_known,
    orientation_notes,
    unit_of,
)
from napari_cnnvis.reading import check_plain, source_file
from napari_cnnvis.writing import PYTHON, atomic_path, check_output

__all__ = [
    "Scan",
    "Volume",
    "channels_of",
    "check_spacing",
    "check_writable",
    "constant_note",
    "load_image",
    "read_volume",
    "write_volume",
]

#: file endings that nibabel writes and this package offers for saving
WRITABLE = (".nii", ".nii.gz", ".mgz", ".mgh")
#: millimetres between voxels of any scan of a head
_SPACING_LIMITS = 0.05, 50.0
#: so much may follow the voxels in a packed file
_TAIL = 1 << 26


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D image and its place in space.

    Parameters
    ----------
    data : array, shape (i, j, k)
        Intensities; kept as float32. NaN and infinite voxels are replaced by 0
        and reported in `notes`.
    affine : array, shape (4, 4)
        Voxel indices to RAS millimetres.
    name : str
        What the volume is called in the viewer and in provenance.
    header : nibabel header, optional
        The header of the file it was read from; saving keeps its sform and qform.
    orientation_known : bool
        False where the file says nothing of its orientation; the affine then
        holds the spacing at most.
    notes : tuple of str
        What was mended or is doubtful, in plain words.
    stored_orientation : str, optional
        How the axes lay in the file, if `data` was reoriented for display since; a model
        that takes volumes as they are stored is given these axes.
    source : str
        The file that it was read from, "" if none; ``file.nii#3`` for volume 3 of a 4D file.

    Raises
    ------
    VolumeError
        If `data` is not three-dimensional or `affine` is not an invertible 4 x 4 matrix.
    """

    data: np.ndarray
    affine: np.ndarray = field(default_factory=lambda: np.eye(4))
    name: str = "volume"
    header: Any = None
    orientation_known: bool = True
    notes: tuple[str, ...] = ()
    stored_orientation: str | None = None
    source: str = ""

    def __post_init__(self) -> None:
        data = np.asarray(self.data)
        if data.ndim != 3 or 0 in data.shape:
            raise VolumeError(
                f"'{self.name}' has shape {data.shape}; a 3D volume with at least one voxel "
                "along each axis is needed."
            )
        if data.dtype.kind not in "biuf":
            raise VolumeError(
                f"'{self.name}' holds {data.dtype} values (colour or complex numbers); "
                "a volume of plain intensities is needed."
            )
        data = data.astype(np.float32, copy=False)
        finite = np.isfinite(data)
        if not finite.all():
            count = int(data.size - finite.sum())
            data = np.where(finite, data, np.float32(0))
            note = f"{count} voxels of '{self.name}' were NaN or infinite and were set to 0."
            object.__setattr__(self, "notes", (*self.notes, note))
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise VolumeError(f"The affine of '{self.name}' is not a finite 4 x 4 matrix.")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise VolumeError(
                f"The affine of '{self.name}' squeezes the volume flat (a voxel size of 0?); "
                "correct the file's header."
            )
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "affine", affine)
        note = constant_note(data)
        if note and note not in self.notes:
            object.__setattr__(self, "notes", (*self.notes, note))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along i, j, k."""
        return self.data.shape

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxel centres along i, j, k in millimetres."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def orientation(self) -> str:
        """Where i, j and k point to, as letters such as "RAS" or "LPI"."""
        return "".join(ornt2axcodes(io_orientation(self.affine)))

    def same_grid(self, other: Volume) -> bool:
        """Whether both have the same shape and, to a micrometre, the same affine."""
        return self.shape == other.shape and np.allclose(self.affine, other.affine, atol=1e-3)

    def reoriented(self, orientation: str, remember: bool = False) -> Volume:
        """The same volume with its axes flipped and permuted to `orientation`, e.g. "SAR".

        No voxel value changes; the affine follows. With `remember` a model that takes
        volumes as they are stored is still given the axes that this volume has now.
        """
        transform = orientation_change(self.affine, orientation)
        return replace(
            self,
            data=np.ascontiguousarray(apply_orientation(self.data, transform)),
            affine=self.affine @ inv_ornt_aff(transform, self.shape),
            stored_orientation=(self.stored_orientation or self.orientation) if remember else None,
        )


def constant_note(data: np.ndarray, name: str = "") -> str:
    """What to say of a scan without content, "" for any other."""
    first = data.flat[0]
    if not (data == first).all():
        return ""
    named = f" '{name}'" if name else ""
    return (
        f"The scan{named} is the same value everywhere ({first:g}), so what the network says of it "
        "means nothing."
    )


#: one volume, or one for each input channel of a network
Scan = Volume | Sequence[Volume]


def channels_of(scan: Scan) -> tuple[Volume, ...]:
    """The volumes of a scan, one for each channel; the first is what maps lie on.

    Raises
    ------
    VolumeError
        If there is none.
    """
    volumes = (scan,) if isinstance(scan, Volume) else tuple(scan)
    if not volumes:
        raise VolumeError("No volume was given; give one for each input channel of the model.")
    return volumes


def orientation_change(affine: np.ndarray, orientation: str) -> np.ndarray:
    """nibabel orientation transform from the axes of `affine` to `orientation`.

    Raises
    ------
    VolumeError
        If `orientation` is not three letters, one of each pair L/R, P/A, I/S.
    """
    letters = orientation.upper()
    pairs = sorted(
        ["LR", "PA", "IS"].index(p) for c in letters for p in ("LR", "PA", "IS") if c in p
    )
    if pairs != [0, 1, 2] or len(letters) != 3:
        raise VolumeError(
            f"'{orientation}' is not an orientation; use three letters such as RAS or LPI."
        )
    return ornt_transform(io_orientation(affine), axcodes2ornt(letters))


def read_volume(path: str | os.PathLike, index: int | None = None) -> Volume:
    """Read a NIfTI, MGH/MGZ or any other 3D image that nibabel reads.

    Parameters
    ----------
    path : path-like
        The file.
    index : int, optional
        Which volume of a 4D file to take.

    Returns
    -------
    Volume
        With the file's own axes; trailing axes of length one are dropped.

    Raises
    ------
    VolumeError
        If there is no such file, or it is not a readable image with one 3D volume.
    """
    path = Path(path)
    image, data = load_image(path, np.float32)
    name = path.name
    for ending in (".gz", path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix):
        name = name.removesuffix(ending)
    data = _one_volume(data, index, path)
    volume = Volume(
        data,
        affine_in_mm(image),
        name,
        image.header.copy(),
        orientation_known(image),
        orientation_notes(image, path.name),
        source=str(path.absolute()) + ("" if index is None else f"#{index}"),
    )
    remedy = "in its header, such as with nibabel: image.header.set_xyzt_units('mm')"
    check_spacing(volume, f"The header of {path.name}", unit_of(image.header)[0], remedy)
    return volume


def check_spacing(volume: Volume, where: str, unit: str, remedy: str) -> None:
    """Raise if voxels are so small or large that the unit of length must be another one."""
    low, high = _SPACING_LIMITS
    sizes = [s for n, s in zip(volume.shape, volume.spacing, strict=True) if n > 1]
    if any(not low <= s <= high for s in sizes):
        millimetres = " x ".join(f"{s:.3g}" for s in volume.spacing)
        raise VolumeError(
            f"{where} says that its unit is {unit} and its voxels have {millimetres} mm, which no scan "
            f"of a head has ({low:g} to {high:g} mm). Correct the unit or the voxel size "
            f"{remedy}, and try again."
        )


def load_image(
    path: str | os.PathLike, dtype: type[np.number] | None = None
) -> tuple[nib.spatialimages.SpatialImage, np.ndarray]:
    """An image file that nibabel reads, and its voxels.

    Parameters
    ----------
    path : path-like
    dtype : numpy type, optional
        What plain numbers are converted to; as stored (and scaled) by default.

    Raises
    ------
    VolumeError
        If there is no such file, or it is not an image that can be read to its end.
    """
    path = check_plain(path, "an image file such as scan.nii.gz")
    try:
        check_extensions(path)
        image = nib.load(path)
        end = check_size(image, path)
        plain = image.get_data_dtype().kind in "biuf"  # what else there is, Volume refuses
        data = np.asarray(image.dataobj, dtype=dtype if plain else None)
        if path.name.lower().endswith((".gz", ".mgz")):
            _check_gzip(path, end + _TAIL)
    except VolumeError:
        raise
    except ImageFileError as exc:
        raise VolumeError(
            f"{path} is not an image that nibabel can read (NIfTI .nii/.nii.gz, .mgz, "
            "Analyze, MINC ...)."
        ) from exc
    except MemoryError as exc:
        raise VolumeError(
            f"{path} takes more memory than there is. Close other programs, or check that it is the "
            "file you mean."
        ) from exc
    except Exception as exc:  # nibabel raises a dozen kinds on damaged bytes
        reason = shortened(str(exc).partition("\n")[0]).rstrip(" .")
        raise VolumeError(f"{path} is damaged or incomplete: {reason}. Copy it again.") from exc
    return image, data


def _check_gzip(path: Path, limit: int) -> None:
    """Read to the checksum at the end, before which nibabel stops."""
    done = 0
    with gzip.open(path) as file:
        while piece := file.read(1 << 22):
            done += len(piece)
            if done > limit:
                raise VolumeError(
                    f"{path} goes on for {(limit - _TAIL) / 1e6:.0f} MB and far more than its header "
                    "says; it is damaged or no scan. Copy it again."
                )


def _one_volume(data: np.ndarray, index: int | None, path: Path) -> np.ndarray:
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    if data.ndim == 4:
        if index is None:
            raise VolumeError(
                f"{path} holds {data.shape[3]} volumes (4D); choose one, "
                "e.g. read_volume(path, index=0)."
            )
        if not 0 <= index < data.shape[3]:
            raise VolumeError(f"{path} has volumes 0 to {data.shape[3] - 1}; {index} is not one.")
        data = data[..., index]
    return data


def write_volume(volume: Volume, path: str | os.PathLike, overwrite: bool = False) -> Path:
    """Write a volume as float32 NIfTI (``.nii``, ``.nii.gz``) or MGH (``.mgz``, ``.mgh``).

    The file gets the affine of the volume, and the sform and qform codes and the unit of
    length of the file that it came from. It is written beside the target and moved into place.

    Parameters
    ----------
    volume : Volume
    path : path-like
    overwrite : bool
        Replace a file that is there; never the one that the volume was read from.

    Raises
    ------
    VolumeError
        If the ending is not one of these, the folder cannot be written to, or there is such
        a file.
    """
    path = check_writable(path, [source_file(volume.source)[0]], overwrite)
    if path.name.endswith((".mgz", ".mgh")):
        image = nib.MGHImage(volume.data, volume.affine)
    else:
        image = _nifti(volume)
    with atomic_path(path) as temporary:
        nib.save(image, temporary)
    return path


def check_writable(
    path: str | os.PathLike,
    inputs: Sequence[str | os.PathLike | None] = (),
    overwrite: bool = False,
    how: str = PYTHON,
) -> Path:
    """The path, if a volume can be written there; to be asked before a long run.

    Parameters
    ----------
    path, inputs, overwrite, how
        See `check_output`.

    Raises
    ------
    VolumeError
        If the ending is not one of `WRITABLE`, or see `check_output`.
    """
    path = Path(path)
    if not path.name.endswith(WRITABLE):
        raise VolumeError(
            f"Cannot write {path.name}; use one of the endings {', '.join(WRITABLE)}."
        )
    return check_output(path, inputs, overwrite, how)


def _nifti(volume: Volume) -> nib.Nifti1Image:
    if type(volume.header) is nib.Nifti1Header:
        header = volume.header.copy()
        header.set_data_dtype(np.float32)
        header["cal_min"] = header["cal_max"] = 0
        return nib.Nifti1Image(volume.data, affine_in_unit(volume.affine, header), header)
    image = nib.Nifti1Image(volume.data, volume.affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(volume.affine, code=2 if volume.orientation_known else 0)
    image.set_sform(volume.affine, code=2 if volume.orientation_known else 0)
    return image
