"""Directions of view in the patient's space, and volumes laid out along them.

Volumes have axes R, A, S here: indices rise to the patient's right, front and top.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.scan.volume import Volume

__all__ = [
    "VIEWS",
    "View",
    "is_oblique",
    "millimetres",
    "slice_views",
    "voxel_at",
]

#: axis and sign of each direction
_DIRECTIONS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
_OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))


@dataclass(frozen=True)
class View:
    """Where a viewer looks to and what is up, as letters out of R, L, A, P, S and I."""

    forward: str
    up: str

    @property
    def right(self) -> str:
        """What lies on the right of the picture: forward x up."""
        forward, up = (self.vector(letter) for letter in (self.forward, self.up))
        cross = np.cross(forward, up)
        axis = int(np.abs(cross).argmax())
        return ("RAS" if cross[axis] > 0 else "LPI")[axis]

    @property
    def left(self) -> str:
        """What lies on the left of the picture."""
        return _OPPOSITE[self.right]

    @property
    def axis(self) -> int:
        """The axis of the volume that is looked along: 0, 1 or 2 for R, A or S."""
        return _DIRECTIONS[self.forward][0]

    @staticmethod
    def vector(letter: str) -> np.ndarray:
        """Unit vector in RAS of a direction."""
        axis, sign = _DIRECTIONS[letter]
        return sign * np.eye(3)[axis]

    def laid_out(self, data: np.ndarray) -> np.ndarray:
        """The volume as (depth, rows, columns): nearest first, top row first, left column first."""
        order = (self.forward, _OPPOSITE[self.up], self.right)
        laid = np.transpose(data, [_DIRECTIONS[letter][0] for letter in order])
        return laid[tuple(slice(None, None, _DIRECTIONS[letter][1]) for letter in order)]

    def picture(self, data: np.ndarray, index: int) -> np.ndarray:
        """One slice of the volume, (rows, columns), at an index of the axis looked along."""
        depth = index if _DIRECTIONS[self.forward][1] > 0 else data.shape[self.axis] - 1 - index
        return self.laid_out(data)[depth]

    def size(self, spacing: tuple[float, ...], shape: tuple[int, ...]) -> tuple[float, float]:
        """Height and width of a picture of the volume in mm."""
        rows, columns = (_DIRECTIONS[letter][0] for letter in (self.up, self.right))
        return spacing[rows] * shape[rows], spacing[columns] * shape[columns]


#: from where the patient is looked at
VIEWS = {
    "left": View("R", "S"),
    "right": View("L", "S"),
    "anterior": View("P", "S"),
    "posterior": View("A", "S"),
    "superior": View("I", "A"),
    "inferior": View("S", "A"),
}


def slice_views(side: str) -> dict[str, View]:
    """How sagittal, coronal and axial slices are looked at.

    Radiological: from the left, the front and the feet, so that the patient's left is on
    the right of coronal and axial slices. Neurological: from the other sides.
    """
    names = ("left", "anterior", "inferior")
    if side == "neurological":
        names = ("right", "posterior", "superior")
    return dict(zip(("sagittal", "coronal", "axial"), (VIEWS[name] for name in names), strict=True))


def is_oblique(affine: np.ndarray) -> bool:
    """Whether the axes of a volume lie more than a degree off the body's."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(axes).max(axis=0).min() < np.cos(np.deg2rad(1)))


def millimetres(affine: np.ndarray, voxel: tuple[float, ...]) -> np.ndarray:
    """RAS millimetres of a voxel, shape (3,)."""
    return (affine @ [*voxel, 1])[:3]


def voxel_at(volume: Volume, point: tuple[float, float, float]) -> tuple[int, int, int]:
    """The voxel that holds a point in RAS millimetres.

    Raises
    ------
    VolumeError
        If it lies outside the volume.
    """
    place = (np.linalg.inv(volume.affine) @ [*point, 1])[:3]
    voxel = np.floor(place + 0.5 + 1e-6).astype(int)
    if (voxel < 0).any() or (voxel >= volume.shape).any():
        corners = [
            millimetres(volume.affine, (i, j, k))
            for i in (0, volume.shape[0] - 1)
            for j in (0, volume.shape[1] - 1)
            for k in (0, volume.shape[2] - 1)
        ]
        ends = zip("xyz", np.min(corners, axis=0), np.max(corners, axis=0), strict=True)
        text = ", ".join(f"{axis} {low:.0f} to {high:.0f}" for axis, low, high in ends)
        raise VolumeError(
            f"The position {point[0]:g}, {point[1]:g}, {point[2]:g} mm is outside the scan, "
            f"which reaches over {text} mm."
        )
    return tuple(int(index) for index in voxel)
