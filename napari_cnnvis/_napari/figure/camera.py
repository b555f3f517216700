"""Look at a scan in 3D from its left, right, front, back, top or bottom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.orientations import io_orientation

from napari_cnnvis._napari.layers.one_volume import shape_of, to_world
from napari_cnnvis._napari.layers.place import affine_of
from napari_cnnvis._napari.layers.scans import scan_of
from napari_cnnvis.figure.geometry import VIEWS

__all__ = [
    "CameraState",
    "ScanAxes",
    "camera_of",
    "linear_of",
    "look_from",
    "look_into_3d",
    "shown_axes",
]


def camera_of(viewer: Any) -> Any:
    """The viewer's camera, in napari 0.9 and before."""
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera


@dataclass(frozen=True, eq=False)
class ScanAxes:
    """How the axes of a 3D layer lie in the patient.

    Attributes
    ----------
    axis, sign : tuple of int
        For right, anterior and superior: the layer's axis, and whether it rises with it.
    middle : array, shape (3,)
        RAS millimetres of the layer's centre.
    spacing : array, shape (3,)
        Millimetres of a voxel along right, anterior and superior.
    known : bool
        False where the layer's file says nothing of its orientation.
    """

    axis: tuple[int, int, int]
    sign: tuple[int, int, int]
    middle: np.ndarray
    spacing: np.ndarray
    shape: tuple[int, ...]
    known: bool

    @classmethod
    def of(cls, layer: Any) -> ScanAxes:
        """The axes of a layer; those of other readers are taken to be R, A and S."""
        scan, affine, shape = scan_of(layer), affine_of(layer), shape_of(layer)
        turned = io_orientation(affine)
        axis = tuple(int(np.flatnonzero(turned[:, 0] == row)[0]) for row in range(3))
        sign = tuple(int(turned[a, 1]) for a in axis)
        sides = np.linalg.norm(affine[:3, :3], axis=0)
        middle = (affine @ [*(np.array(shape) - 1) / 2, 1])[:3]
        known = scan is not None and scan.orientation_known
        return cls(axis, sign, middle, sides[list(axis)], shape, known)

    def index(self, row: int, millimetres: float) -> float:
        """Place along the layer's axis of right, anterior or superior (`row` 0, 1, 2)."""
        steps = (millimetres - self.middle[row]) / self.spacing[row] * self.sign[row]
        return steps + (self.shape[self.axis[row]] - 1) / 2

    def span(self, row: int) -> tuple[float, float]:
        """The outer faces of the layer along right, anterior or superior, in mm."""
        half = self.shape[self.axis[row]] * self.spacing[row] / 2
        return float(self.middle[row] - half), float(self.middle[row] + half)

    def in_data(self, vector: np.ndarray) -> np.ndarray:
        """A vector with parts to the right, the front and the top, along the layer's axes."""
        turned = np.zeros(3)
        for row in range(3):
            turned[self.axis[row]] = vector[row] * self.sign[row]
        return turned


def linear_of(layer: Any) -> np.ndarray:
    """What takes steps along a layer's axes to the world, shape (3, 3)."""
    return to_world(layer)[:3, :3]


def shown_axes(viewer: Any) -> list[int]:
    """Which of the last three axes of the world are displayed, in this order."""
    return [axis - viewer.dims.ndim + 3 for axis in viewer.dims.displayed]


def look_into_3d(viewer: Any) -> None:
    """Switch to 3D; the view is fitted if it was 2D."""
    if viewer.dims.ndisplay != 3:
        viewer.dims.ndisplay = 3
        viewer.reset_view()


def look_from(viewer: Any, layer: Any, name: str) -> None:
    """Look at a layer from one of `figure.geometry.VIEWS`, by where it lies in the patient."""
    look_into_3d(viewer)
    axes, linear, view = ScanAxes.of(layer), linear_of(layer), VIEWS[name]
    shown = shown_axes(viewer)
    directions = []
    for letter in (view.forward, view.up):
        # lengths of voxels must not tilt the direction, which is along an axis anyway
        world = linear @ axes.in_data(view.vector(letter))
        directions.append(tuple((world / np.linalg.norm(world))[shown]))
    camera_of(viewer).set_view_direction(*directions)


@dataclass(frozen=True)
class CameraState:
    """A view of the viewer that can be come back to."""

    center: tuple[float, ...]
    zoom: float
    angles: tuple[float, ...]
    perspective: float

    @classmethod
    def of(cls, viewer: Any) -> CameraState:
        """As the camera stands now."""
        camera = camera_of(viewer)
        center, angles = (tuple(float(v) for v in t) for t in (camera.center, camera.angles))
        return cls(center, float(camera.zoom), angles, float(camera.perspective))

    def restore(self, viewer: Any) -> None:
        """Put the camera there, in 3D."""
        viewer.dims.ndisplay = 3
        camera = camera_of(viewer)
        camera.center = self.center
        camera.zoom = self.zoom
        camera.angles = self.angles
        camera.perspective = self.perspective
