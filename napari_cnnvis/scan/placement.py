"""Where an image lies in space, as its file says: in millimetres, and whether it says so at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.analyze import AnalyzeImage
from nibabel.orientations import aff2axcodes
from nibabel.spatialimages import HeaderDataError

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.scan.opening import OpenedImage
from napari_cnnvis.scan.volume import is_scan_spacing

__all__ = ["Place", "affine_in_unit", "place_of", "unit_of"]

#: codes of NIfTI for lengths other than millimetres: what they are called, and mm of each
_UNITS = {1: ("m", 1000.0), 3: ("µm", 0.001)}
#: voxels whose edges span less of their box than this are flat
_FLAT = 1e-4
#: sizes of voxels that differ by more are not those of one scan
_UNLIKE = 1.5
_CHECK = "check on which side something is that you know"


@dataclass(frozen=True, eq=False)
class Place:
    """Where an image lies, and how surely.

    Attributes
    ----------
    affine : array, shape (4, 4)
        Voxel indices to RAS mm; the spacing at most where the orientation is not known.
    orientation_known : bool
        Whether the file says where its axes point to.
    notes : tuple of str
        What is doubtful, or was taken in place of what cannot be used.
    header : nibabel header
        The file's; of a NIfTI as that of a single file, without a form that cannot be used.
    """

    affine: np.ndarray
    orientation_known: bool
    notes: tuple[str, ...]
    header: Any


def place_of(opened: OpenedImage, name: str) -> Place:
    """Where an image lies.

    Parameters
    ----------
    opened : OpenedImage
    name : str
        What its file is called in notes.

    Raises
    ------
    VolumeError
        If no affine and no voxel size of its header can be used.
    """
    image = opened.image
    if isinstance(image.header, nib.Nifti1Header):
        return _of_nifti(image, opened.start, name)
    known, note = True, ""
    if isinstance(image, nib.MGHImage):
        # nibabel sets the flag, and 1 mm, where it is 0
        known = any(opened.start[28:30])
        note = f"{name} does not say how the scan is oriented and how large its voxels are (RAS flag 0)"
        note += ", so 1 mm is taken, and left and right cannot be told apart."
    elif isinstance(image, AnalyzeImage):
        known = _has_mat(image)
        note = f"{name} is in Analyze format, which does not say how the scan is oriented"
        note += ", so left and right cannot be told apart; convert it to NIfTI from its source."
    affine = np.array(image.affine, dtype=np.float64)
    return Place(affine, known, () if known else (note,), image.header.copy())


def _has_mat(image: AnalyzeImage) -> bool:
    """Whether SPM's file with the affine is there."""
    mat = image.file_map.get("mat")
    try:
        if mat is not None:
            mat.get_prepare_fileobj("rb").close()
        return mat is not None
    except OSError:
        return False


def _of_nifti(image: Any, start: bytes, name: str) -> Place:
    header = _single(image.header)
    unit, shape = unit_of(header)[1], image.shape[:3]
    usable, unusable = {}, []
    stored = type(header)(start[: header.sizeof_hdr], endianness=header.endianness, check=False)
    sized = bool(np.isfinite(stored["pixdim"][1:4]).all() and (stored["pixdim"][1:4] != 0).all())
    for form in ("sform", "qform"):
        # nibabel sets codes that there are not to 0, and sizes of 0 to 1
        if int(stored[f"{form}_code"]) != 0:
            affine = _form(header, form) if int(header[f"{form}_code"]) > 0 else None
            lacks_size = form == "qform" and not sized and "sform" in usable
            if affine is None or lacks_size or not _is_solid(affine):
                unusable.append(form)
            else:
                usable[form] = affine
    if len(usable) == 2:
        fits = {
            form: is_scan_spacing(_in_mm(affine, unit), shape) for form, affine in usable.items()
        }
        if fits["qform"] and not fits["sform"]:
            unusable.append("sform")
            del usable["sform"]
    for form in unusable:
        _drop(header, form)
    notes = _notes(usable, unusable, name)
    if "sform" not in usable and not sized:
        notes += (f"The header of {name} has a voxel size of 0, so 1 is taken; correct it.",)
    affine = next(iter(usable.values())) if usable else header.get_base_affine()
    if not _is_solid(affine):
        raise VolumeError(
            f"The header of {name} has no sform, no qform and no voxel size that can be used; correct it, "
            "or convert the scan again from its source."
        )
    return Place(_in_mm(affine, unit), bool(usable), notes, header)


def _single(header: Any) -> Any:
    """A copy of a NIfTI header as that of a single file, with all its fields."""
    kind = nib.Nifti2Header if isinstance(header, nib.Nifti2Header) else nib.Nifti1Header
    if type(header) is kind:
        return header.copy()
    single = kind(header.binaryblock, endianness=header.endianness, check=False)
    single["magic"] = kind.single_magic
    single["vox_offset"] = 0
    return single


def _form(header: Any, form: str) -> np.ndarray | None:
    try:
        affine = np.asarray(getattr(header, f"get_{form}")(), dtype=np.float64)
    except (ValueError, HeaderDataError):  # a quaternion that no rotation has
        return None
    return affine if np.isfinite(affine).all() else None


def _is_solid(affine: np.ndarray) -> bool:
    """Whether voxels have a volume."""
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    finite = np.isfinite(affine).all() and (edges > 0).all()
    return bool(finite and abs(np.linalg.det(affine[:3, :3] / edges)) > _FLAT)


def _drop(header: Any, form: str) -> None:
    header[f"{form}_code"] = 0
    if form == "qform":
        for part in "bcd":
            header[f"quatern_{part}"] = 0


def _notes(usable: dict[str, np.ndarray], unusable: list[str], name: str) -> tuple[str, ...]:
    if unusable:
        what = " and the ".join(unusable)
        wrong = (
            f"The {what} in the header of {name} cannot be used (damaged, or no affine of a scan)"
        )
        if usable:
            return (f"{wrong}; the {next(iter(usable))} is taken instead. Please {_CHECK}.",)
        return (f"{wrong}, so left and right cannot be told apart; only its voxel size is taken.",)
    if not usable:
        return (
            f"The header of {name} does not say how the scan is oriented "
            "(sform and qform are 0), so left and right cannot be told apart.",
        )
    if len(usable) < 2:
        return ()
    codes = [aff2axcodes(affine) for affine in usable.values()]
    sizes = [np.linalg.norm(affine[:3, :3], axis=0) for affine in usable.values()]
    about, check = "", _CHECK
    if _left_right(codes[0]) != _left_right(codes[1]):
        about = "left and right"
    elif codes[0] != codes[1]:
        about = "where its axes point to"
    elif max((sizes[0] / sizes[1]).max(), (sizes[1] / sizes[0]).max()) > _UNLIKE:
        about, check = "the size of its voxels", "check the size of something that you know"
    if not about:
        return ()
    return (
        f"The header of {name} says two things about {about}: its sform and its qform disagree. "
        f"The sform is used; {check}.",
    )


def _left_right(codes: tuple[str, ...]) -> tuple[int, str] | None:
    """The axis that runs from side to side, and where it points to; None where none does."""
    return next(((axis, code) for axis, code in enumerate(codes) if code in ("L", "R")), None)


def unit_of(header: Any) -> tuple[str, float]:
    """The unit of length of a header and its millimetres; mm where nothing else is said."""
    if isinstance(header, nib.Nifti1Header):
        return _UNITS.get(int(header["xyzt_units"]) & 7, ("mm", 1.0))
    return "mm", 1.0


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
