"""A volume: an image with its affine, as it lies in the scanner's space.

Arrays are indexed [i, j, k]; the affine takes voxel indices to millimetres in
RAS space (x to the patient's right, y to the front, z to the top), as in NIfTI.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt2axcodes,
    ornt_transform,
)

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.scan.whole_numbers import whole_numbers

__all__ = [
    "HEAD_FOUND",
    "Scan",
    "Volume",
    "channels_of",
    "check_spacing",
    "constant_note",
    "is_scan_spacing",
]

#: what the head of a scan without a mask of its own is called
HEAD_FOUND = "found in the scan"
#: millimetres between voxels of any scan of a head
_SPACING_LIMITS = 0.05, 50.0


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
        What was corrected or is doubtful, in plain words.
    stored_orientation : str, optional
        How the axes lay in the file, if `data` was reoriented for display since; a model
        that takes volumes as they are stored is given these axes.
    source : str
        The file that it was read from, "" if none; ``file.nii#3`` for volume 3 of a 4D file.
    head : array of bool, shape (i, j, k), optional
        The voxels of the head, if they are known; see `with_head`. Elsewhere they are
        found in the scan (`napari_cnnvis.scan.head.head_of`).
    head_name : str
        What that mask is called in provenance.
    head_source : str
        The file that it was read from, "" if none.

    Raises
    ------
    VolumeError
        If `data` is not three-dimensional, `affine` is not an invertible 4 x 4 matrix, or
        `head` is empty or of another shape.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_cnnvis as cv
    >>> volume = cv.Volume(np.ones((40, 50, 30)), np.diag([2.0, 2, 3, 1]), "scan")
    >>> volume
    Volume(scan, 40 x 50 x 30 voxels of 2 x 2 x 3 mm, RAS)
    >>> volume.reoriented("LPS").shape
    (40, 50, 30)
    """

    data: np.ndarray
    affine: np.ndarray = field(default_factory=lambda: np.eye(4))
    name: str = "volume"
    header: Any = None
    orientation_known: bool = True
    notes: tuple[str, ...] = ()
    stored_orientation: str | None = None
    source: str = ""
    head: np.ndarray | None = None
    head_name: str = HEAD_FOUND
    head_source: str = ""

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
        if self.head is not None:
            object.__setattr__(self, "head", self._checked_head(np.asarray(self.head)))

    def _checked_head(self, mask: np.ndarray) -> np.ndarray:
        named = f"The head mask '{self.head_name}'"
        if mask.shape != self.shape:
            raise VolumeError(
                f"{named} has {_size(mask.shape)} voxels, but '{self.name}' {_size(self.shape)}; "
                "give a mask on the scan's own grid, or resample it to the scan first."
            )
        whole = whole_numbers(mask)  # of a file that is scaled, 0 can be a hair off
        mask = mask if whole is None else whole
        if not mask.any():
            raise VolumeError(
                f"{named} is empty (0 everywhere); give one that is not 0 inside the head."
            )
        return mask != 0

    def __repr__(self) -> str:
        voxels, sides = (
            " x ".join(map(str, self.shape)),
            " x ".join(f"{s:.3g}" for s in self.spacing),
        )
        axes = self.orientation if self.orientation_known else "orientation unknown"
        return f"Volume({self.name}, {voxels} voxels of {sides} mm, {axes})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along i, j, k."""
        return self.data.shape

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxel centres along i, j, k in millimetres."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return i, j, k

    @property
    def orientation(self) -> str:
        """Where i, j and k point to, as letters such as "RAS" or "LPI"."""
        return "".join(ornt2axcodes(io_orientation(self.affine)))

    def same_grid(self, other: Volume) -> bool:
        """Whether both have the same shape and, to a micrometre, the same affine."""
        return self.shape == other.shape and np.allclose(self.affine, other.affine, atol=1e-3)

    def with_head(self, mask: Volume | np.ndarray | None, name: str = "mask") -> Volume:
        """The same volume with a head mask of your own; all that asks for its head takes it.

        Parameters
        ----------
        mask : Volume, array or None
            Not 0 inside the head, on the volume's grid. A `Volume` may have its axes
            flipped or permuted; an array has the volume's. None: the head is found again.
        name : str
            What an array is called in provenance; a `Volume` has its own name.

        Raises
        ------
        VolumeError
            If the mask is empty or not on the volume's grid.

        Examples
        --------
        >>> scan = Volume(np.arange(8.0).reshape(2, 2, 2))
        >>> int(scan.with_head(scan.data > 3).head.sum())
        4
        """
        if mask is None:
            return replace(self, head=None, head_name=HEAD_FOUND, head_source="")
        if not isinstance(mask, Volume):
            return replace(self, head=np.asarray(mask), head_name=name, head_source="")
        placed = self.orientation_known and mask.orientation_known
        turned = mask.reoriented(self.orientation) if placed else mask
        carried = replace(self, head=turned.data, head_name=mask.name, head_source=mask.source)
        if placed and not turned.same_grid(self):
            raise VolumeError(
                f"The head mask '{mask.name}' is not on the grid of '{self.name}': they have the "
                "same shape, but their affines differ; resample the mask to the scan first, or "
                "correct its header."
            )
        return carried

    def reoriented(self, orientation: str, remember: bool = False) -> Volume:
        """The same volume with its axes flipped and permuted to `orientation`, e.g. "SAR".

        No voxel value changes; the affine follows. With `remember` a model that takes
        volumes as they are stored is still given the axes that this volume has now.
        """
        transform = orientation_change(self.affine, orientation)

        def turned(data: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray(apply_orientation(data, transform))

        return replace(
            self,
            data=turned(self.data),
            head=None if self.head is None else turned(self.head),
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


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


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


def is_scan_spacing(affine: np.ndarray, shape: Sequence[int]) -> bool:
    """Whether voxels have sizes that those of a head scan may have; one of 0 is not judged here."""
    low, high = _SPACING_LIMITS
    sizes = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
    return all(n <= 1 or s <= 0 or low <= s <= high for n, s in zip(shape, sizes, strict=False))


def check_spacing(
    affine: np.ndarray, shape: Sequence[int], where: str, unit: str, remedy: str
) -> None:
    """Raise if voxels are so small or large that the unit of length must be another one."""
    if not is_scan_spacing(affine, shape):
        low, high = _SPACING_LIMITS
        sizes = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
        millimetres = " x ".join(f"{s:.3g}" for s in sizes)
        raise VolumeError(
            f"{where} says that its unit is {unit} and its voxels have {millimetres} mm, which no scan "
            f"of a head has ({low:g} to {high:g} mm). Correct the unit or the voxel size "
            f"{remedy}, and try again."
        )
