"""A volume: an image with its affine, as it lies in the scanner's space.

Arrays are indexed [i, j, k]; the affine takes voxel indices to millimetres in
RAS space (x to the patient's right, y to the front, z to the top), as in NIfTI.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import tempfile
import zlib
from collections.abc import Iterator, Sequence
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

from napari_cnnvis.errors import VolumeError

__all__ = [
    "Scan",
    "Volume",
    "atomic_path",
    "channels_of",
    "check_writable",
    "load_image",
    "read_volume",
    "write_volume",
]

#: file endings that nibabel writes and this package offers for saving
WRITABLE = (".nii", ".nii.gz", ".mgz", ".mgh")


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
                "mend the file's header."
            )
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "affine", affine)

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
    known = _orientation_known(image)
    notes = (
        ()
        if known
        else (
            f"The header of {path.name} does not say how the scan is oriented "
            "(sform and qform are 0), so left and right cannot be told apart.",
        )
    )
    source = str(path.absolute()) + ("" if index is None else f"#{index}")
    return Volume(data, image.affine, name, image.header.copy(), known, notes, source=source)


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
    path = Path(path)
    if path.is_dir():
        raise VolumeError(f"{path} is a folder; choose an image file such as scan.nii.gz.")
    if not path.exists():
        raise VolumeError(f"There is no file {path}.")
    if path.stat().st_size == 0:
        raise VolumeError(f"{path} is empty (0 bytes); copy or download it again.")
    try:
        image = nib.load(path)
        plain = image.get_data_dtype().kind in "biuf"  # what else there is, Volume refuses
        data = np.asarray(image.dataobj, dtype=dtype if plain else None)
        if path.name.lower().endswith((".gz", ".mgz")):
            _check_gzip(path)
    except ImageFileError as exc:
        raise VolumeError(
            f"{path} is not an image that nibabel can read (NIfTI .nii/.nii.gz, .mgz, "
            "Analyze, MINC ...)."
        ) from exc
    except (
        OSError, EOFError, ValueError, TypeError, zlib.error, nib.spatialimages.HeaderDataError
    ) as exc:  # fmt: skip
        reason = str(exc).partition("\n")[0].rstrip(" .")
        raise VolumeError(f"{path} is damaged or incomplete: {reason}. Copy it again.") from exc
    return image, data


def _check_gzip(path: Path) -> None:
    """Read to the checksum at the end, before which nibabel stops."""
    with gzip.open(path) as file:
        while file.read(1 << 22):
            pass


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


def _orientation_known(image: nib.spatialimages.SpatialImage) -> bool:
    header = image.header
    if isinstance(header, nib.Nifti1Header):
        return int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    return True


def write_volume(volume: Volume, path: str | os.PathLike) -> Path:
    """Write a volume as float32 NIfTI (``.nii``, ``.nii.gz``) or MGH (``.mgz``, ``.mgh``).

    The file gets the affine of the volume, and the sform and qform codes of the
    file that it came from. It is written beside the target and moved into place.

    Raises
    ------
    VolumeError
        If the ending is not one of these or the folder cannot be written to.
    """
    path = check_writable(path)
    if path.name.endswith((".mgz", ".mgh")):
        image = nib.MGHImage(volume.data, volume.affine)
    else:
        image = _nifti(volume)
    with atomic_path(path) as temporary:
        nib.save(image, temporary)
    return path


def check_writable(path: str | os.PathLike) -> Path:
    """The path, if a volume can be written there; to be asked before a long run.

    Raises
    ------
    VolumeError
        If the ending is not one of `WRITABLE` or the folder does not exist.
    """
    path = Path(path)
    if not path.name.endswith(WRITABLE):
        raise VolumeError(
            f"Cannot write {path.name}; use one of the endings {', '.join(WRITABLE)}."
        )
    if not path.parent.is_dir():
        raise VolumeError(f"Cannot write {path}: there is no folder {path.parent}.")
    return path


def _nifti(volume: Volume) -> nib.Nifti1Image:
    if type(volume.header) is nib.Nifti1Header:
        header = volume.header.copy()
        header.set_data_dtype(np.float32)
        header["cal_min"] = header["cal_max"] = 0
        return nib.Nifti1Image(volume.data, volume.affine, header)
    image = nib.Nifti1Image(volume.data, volume.affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(volume.affine, code=2 if volume.orientation_known else 0)
    image.set_sform(volume.affine, code=2 if volume.orientation_known else 0)
    return image


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder, moved to `path` if the block succeeds.

    Raises
    ------
    VolumeError
        If the folder does not exist or cannot be written to.
    """
    endings = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(
            suffix=endings, prefix=f".{path.name[:40]}-", dir=path.parent
        )
        os.close(handle)
        temporary = Path(name)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's files are private; the result is not
        yield temporary
        os.replace(temporary, path)
    except OSError as exc:
        raise VolumeError(
            f"Cannot write {path}: {exc.strerror or exc}. Choose a folder that exists, "
            "has space and can be written to."
        ) from exc
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
