"""What the header of an image says: its unit, its place in space, and how much is to be read."""

from __future__ import annotations

import contextlib
import gzip
import math
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from nibabel.analyze import AnalyzeImage
from nibabel.orientations import aff2axcodes

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.reading import check_fits

__all__ = [
    "affine_in_mm",
    "affine_in_unit",
    "check_extensions",
    "check_size",
    "orientation_known",
    "orientation_notes",
    "unit_of",
]

#: codes of NIfTI for lengths other than millimetres: what they are called, and mm of each
_UNITS = {1: ("m", 1000.0), 3: ("µm", 0.001)}
#: gzip shrinks nothing further
_GZIP_RATIO = 1032
#: what lies before the voxels is text and small matrices
_EXTENSION_LIMIT = 64_000_000


def unit_of(header: Any) -> tuple[str, float]:
    """The unit of length of a header and its millimetres; mm where nothing else is said."""
    if isinstance(header, nib.Nifti1Header):
        return _UNITS.get(int(header["xyzt_units"]) & 7, ("mm", 1.0))
    return "mm", 1.0


def affine_in_mm(image: nib.spatialimages.SpatialImage) -> np.ndarray:
    """Voxel indices to RAS millimetres, whatever the unit of the file."""
    return _in_mm(image.affine, unit_of(image.header)[1])


def _in_mm(affine: np.ndarray, factor: float) -> np.ndarray:
    affine = np.array(affine, dtype=np.float64)
    if factor != 1:
        # as a header in mm has it: 0.002 m are 2 mm, not 2.0000001
        affine[:3] = (affine[:3] * factor).astype(np.float32)
    return affine


def affine_in_unit(affine: np.ndarray, header: nib.Nifti1Header) -> np.ndarray:
    """The affine for a file with this header, in its unit; the header's own where they agree."""
    factor = unit_of(header)[1]
    own = header.get_best_affine()
    if np.allclose(affine, _in_mm(own, factor)):
        return own
    stored = np.array(affine, dtype=np.float64)
    stored[:3] /= factor
    return stored


def orientation_known(image: nib.spatialimages.SpatialImage) -> bool:
    """Whether the file says where its axes point to."""
    header = image.header
    if isinstance(header, nib.Nifti1Header):
        return int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    return True


def orientation_notes(image: nib.spatialimages.SpatialImage, name: str) -> tuple[str, ...]:
    """What is doubtful about left and right."""
    header = image.header
    if not orientation_known(image):
        return (
            f"The header of {name} does not say how the scan is oriented "
            "(sform and qform are 0), so left and right cannot be told apart.",
        )
    if (
        isinstance(header, nib.Nifti1Header)
        and min(int(header["sform_code"]), int(header["qform_code"])) > 0
    ):
        with contextlib.suppress(Exception):  # of a form that is none, nibabel raises all kinds
            sides = [_left_right(form) for form in (header.get_sform(), header.get_qform())]
            if None not in sides and sides[0] != sides[1]:
                return (
                    f"The header of {name} says two things about left and right: its sform and its "
                    "qform disagree. The sform is used; check on which side something is that you "
                    "know.",
                )
    return ()


def _left_right(affine: np.ndarray) -> tuple[int, str] | None:
    """The axis that runs from side to side, and where it points to; None where none does."""
    codes = aff2axcodes(affine)
    return next(((axis, code) for axis, code in enumerate(codes) if code in ("L", "R")), None)


def check_extensions(path: Path) -> None:
    """Look at how much lies before the voxels of a NIfTI, before nibabel reads all of it.

    Raises
    ------
    VolumeError
        If it is no header of a scan.
    """
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as file:
        start = file.read(544)
        small_first = start[:4] in (b"\x5c\1\0\0", b"\x1c\2\0\0")
        order: Literal["little", "big"] = "little" if small_first else "big"
        size = int.from_bytes(start[:4], order)
        if size not in (348, 540) or len(start) < size + 4 or not start[size]:
            return
        place = size + 4
        while True:
            file.seek(place)
            length = int.from_bytes(file.read(8)[:4], order, signed=True)
            if length < 16:  # the voxels, or nothing
                return
            place += length
            if place > _EXTENSION_LIMIT:
                raise VolumeError(
                    f"{path} says that {place / 1e6:.0f} MB lie before its voxels, which is no header "
                    "of a scan. Copy or convert it again."
                )


def check_size(image: nib.spatialimages.SpatialImage, path: Path) -> int:
    """Compare what the header asks for with the file and the memory; bytes up to the last voxel.

    Raises
    ------
    VolumeError
        If the file cannot hold so many voxels, or the memory cannot.
    """
    n_voxels = math.prod(int(n) for n in image.shape)
    stored = n_voxels * image.get_data_dtype().itemsize
    end = stored + int(getattr(image.dataobj, "offset", 0))
    if isinstance(image, AnalyzeImage | nib.MGHImage):
        file = Path(image.file_map["image"].filename or path)
        size = file.stat().st_size
        packed = file.name.lower().endswith((".gz", ".mgz"))
        if file.name.lower().endswith((".bz2", ".zst")):
            size = end
        if end > size * (_GZIP_RATIO if packed else 1):
            raise VolumeError(
                f"{path} is damaged or incomplete: its header asks for {end:,} bytes, and the file "
                f"has {size:,}{' (packed)' if packed else ''}. Copy it again."
            )
    check_fits(stored + 8 * n_voxels, path)
    return end
