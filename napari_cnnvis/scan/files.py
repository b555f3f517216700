"""Image files: read to their end, and written complete or not at all."""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import SpatialImage

from napari_cnnvis.errors import VolumeError, shortened
from napari_cnnvis.reading import check_plain, source_file
from napari_cnnvis.scan.headers import (
    affine_in_mm,
    affine_in_unit,
    check_extensions,
    check_size,
    orientation_known,
    orientation_notes,
    unit_of,
)
from napari_cnnvis.scan.volume import Volume, check_spacing
from napari_cnnvis.writing import PYTHON, atomic_path, check_output

__all__ = ["WRITABLE", "check_writable", "load_image", "read_volume", "write_volume"]

#: file endings that nibabel writes and this package offers for saving
WRITABLE = (".nii", ".nii.gz", ".mgz", ".mgh")
#: so much may follow the voxels in a packed file
_TAIL = 1 << 26


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

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import sample_path
    >>> cv.read_volume(sample_path("mni152_t1_2mm.nii.gz"))
    Volume(mni152_t1_2mm, 110 x 110 x 110 voxels of 2 x 2 x 2 mm, RAS)
    """
    path = Path(path)
    image, data = load_image(path, np.float32)
    name = path.name
    for ending in (".gz", path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix):
        name = name.removesuffix(ending)
    data = _one_volume(data, index, path)
    affine = affine_in_mm(image)
    remedy = "in its header, such as with nibabel: image.header.set_xyzt_units('mm')"
    where = f"The header of {path.name}"
    check_spacing(affine, data.shape, where, unit_of(image.header)[0], remedy)
    return Volume(
        data,
        affine,
        name,
        image.header.copy(),
        orientation_known(image),
        orientation_notes(image, path.name),
        source=str(path.absolute()) + ("" if index is None else f"#{index}"),
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
        image = cast(SpatialImage, nib.load(path))
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
        image: SpatialImage = nib.MGHImage(volume.data, volume.affine)
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
