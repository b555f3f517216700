"""Image files: read to their end, and written complete or not at all."""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import SpatialImage

from napari_cnnvis.errors import VolumeError, shortened
from napari_cnnvis.reading import check_plain, source_file
from napari_cnnvis.scan.axes import one_volume, volumes_of
from napari_cnnvis.scan.headers import check_extensions, check_size
from napari_cnnvis.scan.opening import opened_image, scan_stem
from napari_cnnvis.scan.placement import Place, affine_in_unit, place_of, unit_of
from napari_cnnvis.scan.volume import Volume, check_spacing
from napari_cnnvis.writing import PYTHON, atomic_path, check_output

__all__ = [
    "WRITABLE",
    "ImageFile",
    "check_writable",
    "load_image",
    "read_place",
    "read_volume",
    "read_volumes",
    "write_volume",
]

#: file endings that nibabel writes and this package offers for saving
WRITABLE = (".nii", ".nii.gz", ".mgz", ".mgh")
#: so much may follow the voxels in a packed file
_TAIL = 1 << 26


def read_volume(path: str | os.PathLike, index: int | None = None) -> Volume:
    """Read a NIfTI, MGH/MGZ or any other 3D image that nibabel reads.

    Parameters
    ----------
    path : path-like
        The file; what is in it counts, not its name. ``run.nii.gz#1`` is volume 1 of a 4D file.
    index : int, optional
        Which volume of a 4D file to take.

    Returns
    -------
    Volume
        With the file's own axes; those of length one are dropped where three others are left.
        In `notes` is what the file does not say, or says twice.

    Raises
    ------
    VolumeError
        If there is no such file, or it is not a readable image with one 3D volume.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import sample_path
    >>> cv.read_volume(sample_path("mni152_t1_2mm.nii.gz"))
    Volume(mni152_t1_2mm, 110 x 110 x 110 voxels of 2 x 2 x 2 mm, RAS)
    """
    name, number = source_file(os.fspath(path))
    path, index = Path(name), number if index is None else index
    return _volume(load_image(path, np.float32), path, index)


def read_volumes(path: str | os.PathLike, most: int) -> list[Volume]:
    """All volumes of a file, such as "run#0" and "run#1", if there are no more than `most`.

    Raises
    ------
    VolumeError
        As `read_volume`, which says how to choose one where there are more.
    """
    name, number = source_file(os.fspath(path))
    path = Path(name)
    file = load_image(path, np.float32)
    volumes, _ = volumes_of(file.data, path)
    if number is not None or volumes.ndim <= 3 or volumes.shape[3] > most:
        return [_volume(file, path, number)]
    several = (_volume(file, path, index) for index in range(volumes.shape[3]))
    return [replace(one, name=f"{one.name}#{n}") for n, one in enumerate(several)]


def _volume(file: ImageFile, path: Path, index: int | None) -> Volume:
    data, notes = one_volume(file.data, index, path)
    remedy = "in its header, such as with nibabel: image.header.set_xyzt_units('mm')"
    if not isinstance(file.place.header, nib.Nifti1Header):
        remedy = "where it is converted to NIfTI"
    where, unit = f"The header of {path.name}", unit_of(file.place.header)[0]
    check_spacing(file.place.affine, data.shape, where, unit, remedy)
    return Volume(
        data,
        file.place.affine,
        scan_stem(path),
        file.place.header,
        file.place.orientation_known,
        (*file.notes, *notes),
        source=str(path.absolute()) + ("" if index is None else f"#{index}"),
    )


@dataclass(frozen=True, eq=False)
class ImageFile:
    """What an image file holds.

    Attributes
    ----------
    data : array
        With all axes of the file.
    place : Place
        Where it lies.
    step : float
        Between the values that it can store; 0 where they are not scaled.
    notes : tuple of str
        What was assumed, in plain words.
    """

    data: np.ndarray
    place: Place
    step: float = 0.0
    notes: tuple[str, ...] = ()


def load_image(path: str | os.PathLike, dtype: type[np.number] | None = None) -> ImageFile:
    """Read an image file that nibabel reads, with its voxels.

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
    with _in_plain_words(path):
        check_extensions(path)
        with opened_image(path) as opened:
            end = check_size(opened, path)
            image = opened.image
            plain = image.get_data_dtype().kind in "biuf"  # what else there is, Volume refuses
            data = np.asarray(image.dataobj, dtype=dtype if plain else None)
            place = place_of(opened, path.name)
        if opened.packed[:1] == ("gzip",):
            _check_gzip(opened.voxels, end + _TAIL)
    slope = np.abs(np.asarray(getattr(image.dataobj, "slope", 1.0), dtype=float)).max()
    step = float(slope) if image.get_data_dtype().kind in "iu" and slope != 1 else 0.0
    return ImageFile(data, place, step, (*opened.notes, *place.notes))


def read_place(path: str | os.PathLike) -> tuple[tuple[int, ...], Place]:
    """The shape of an image, or of a volume of it (``run.nii.gz#1``), and where it lies.

    By its header; its voxels are not read.

    Raises
    ------
    VolumeError
        If there is no such file, or its header cannot be read.
    """
    name, number = source_file(os.fspath(path))
    path = check_plain(name, "an image file such as scan.nii.gz")
    with _in_plain_words(path):
        check_extensions(path)
        with opened_image(path) as opened:
            shape = tuple(map(int, opened.image.shape))
            return shape if number is None else shape[:3], place_of(opened, path.name)


@contextlib.contextmanager
def _in_plain_words(path: Path) -> Iterator[None]:
    try:
        yield
    except VolumeError:
        raise
    except ImageFileError as exc:
        raise VolumeError(
            f"{path} is not an image that nibabel can read (NIfTI .nii/.nii.gz, .mgz, "
            "Analyze, MINC ...)."
        ) from exc
    except ModuleNotFoundError as exc:
        raise VolumeError(
            f"{path} is in a format for which the package {exc.name} is needed: pip install {exc.name}."
        ) from exc
    except FileNotFoundError as exc:
        lacking = Path(exc.filename).name if exc.filename else "another file"
        raise VolumeError(
            f"{path} is one part of a scan, and {lacking} is not next to it; copy all of them into one "
            "folder."
        ) from exc
    except MemoryError as exc:
        raise VolumeError(
            f"{path} takes more memory than there is. Close other programs, or check that it is the "
            "file you mean."
        ) from exc
    except Exception as exc:  # nibabel raises a dozen kinds on damaged bytes
        reason = shortened(str(exc).partition("\n")[0]).rstrip(" .")
        raise VolumeError(f"{path} is damaged or incomplete: {reason}. Copy it again.") from exc


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


def write_volume(volume: Volume, path: str | os.PathLike, overwrite: bool = False) -> Path:
    """Write a volume as float32 NIfTI (``.nii``, ``.nii.gz``) or MGH (``.mgz``, ``.mgh``).

    The file gets the affine of the volume, and the sform and qform codes and the unit of
    length of the file that it came from. It is written beside the target and moved into place.
    MGH cannot say a voxel size without an orientation; where that is unknown, choose NIfTI.

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

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> cv.write_volume(volume, "scan.nii.gz").name
    'scan.nii.gz'
    >>> cv.read_volume("scan.nii.gz").same_grid(volume)
    True
    """
    path = check_writable(path, [source_file(volume.source)[0]], overwrite)
    if path.name.endswith((".mgz", ".mgh")):
        image: SpatialImage = _mgh(volume)
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


def _mgh(volume: Volume) -> nib.MGHImage:
    image = nib.MGHImage(volume.data, volume.affine)
    silent = nib.MGHImage.header_class()
    silent.set_data_shape(volume.shape)
    if not volume.orientation_known and np.allclose(volume.affine, silent.get_affine()):
        image.header["goodRASFlag"] = 0  # as in the file that it came from
    return image


def _nifti(volume: Volume) -> nib.Nifti1Image:
    if isinstance(volume.header, nib.Nifti1Header):
        header = volume.header.copy()
        header.set_data_dtype(np.float32)
        header["cal_min"] = header["cal_max"] = 0
        kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
        return kind(volume.data, affine_in_unit(volume.affine, header), header)
    image = nib.Nifti1Image(volume.data, volume.affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(volume.affine, code=2 if volume.orientation_known else 0)
    image.set_sform(volume.affine, code=2 if volume.orientation_known else 0)
    return image
