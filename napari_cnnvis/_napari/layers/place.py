"""Places in a map: millimetres of its scan, and moving the viewer there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from scipy import ndimage

from napari_cnnvis._napari.layers.one_volume import shape_of, to_world
from napari_cnnvis._napari.layers.regions import fits_shape
from napari_cnnvis._napari.layers.scans import scan_of

__all__ = [
    "affine_of",
    "go_to",
    "labels_on_grid",
    "lies_on_grid",
    "mask_on_grid",
    "millimetres_of",
    "place_text",
    "spacing_of",
]


def affine_of(layer: Any) -> np.ndarray:
    """The affine of a layer's voxels to mm: the scan's own, not that of the display.

    Layers of other readers have their spacing only.
    """
    scan = scan_of(layer)
    if scan is not None:
        return scan.affine
    return np.diag([*np.linalg.norm(to_world(layer)[:3, :3], axis=0), 1.0])


def spacing_of(layer: Any) -> np.ndarray:
    """Millimetres between voxels along the layer's axes."""
    return np.linalg.norm(affine_of(layer)[:3, :3], axis=0)


def millimetres_of(layer: Any, voxel: Sequence[int]) -> np.ndarray:
    """Where a voxel's centre is, in mm."""
    return apply_affine(affine_of(layer), np.asarray(voxel, dtype=float))


def place_text(layer: Any, mm: Sequence[float]) -> str:
    """ "R 24, P 32, S 8 mm"; plain numbers where the orientation is not known."""
    scan = scan_of(layer)
    rounded = [round(float(x)) for x in mm]
    if scan is None or not scan.orientation_known:
        return ", ".join(str(x) for x in rounded) + " mm"
    letters = (pair[0 if x >= 0 else 1] for pair, x in zip(("RL", "AP", "SI"), mm, strict=True))
    return ", ".join(f"{a} {abs(x)}" for a, x in zip(letters, rounded, strict=True)) + " mm"


def go_to(viewer: Any, layer: Any, voxel: Sequence[int]) -> None:
    """Show the slices through a voxel; in 3D, turn about it.

    A slice is moved only if the voxel lies outside the picture, or near its edge.
    """
    dims = viewer.dims
    world = apply_affine(to_world(layer), np.asarray(voxel, dtype=float))
    axes = range(dims.ndim - len(world), dims.ndim)
    dims.set_point(axes, world.tolist())
    camera = viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera  # before 0.9
    centre = np.array([dims.point[axis] for axis in dims.displayed])
    if dims.ndisplay == 3 or not _is_seen(viewer, camera, centre):
        camera.center = (*camera.center[: 3 - len(centre)], *centre)


def _is_seen(viewer: Any, camera: Any, place: np.ndarray) -> bool:
    """Whether a place in a slice (row, column) is well inside the picture."""
    size = getattr(getattr(viewer, "canvas", None), "size", None)  # pixels; from 0.9
    if size is None:
        return False
    away = np.abs(place - np.array(camera.center)[-2:]) * camera.zoom
    return bool((away < 0.47 * np.array(size)).all())


def labels_on_grid(labels: Any, layer: Any) -> np.ndarray:
    """A copy of a Labels layer's data on the voxels of `layer` (nearest; 0 outside)."""
    data = np.array(labels.data)
    shape = shape_of(layer)
    matrix = _to_voxels_of(labels, layer)
    if data.shape == shape and np.allclose(matrix, np.eye(4), atol=1e-3):
        return data
    return ndimage.affine_transform(
        data, matrix[:3, :3], matrix[:3, 3], output_shape=shape, order=0, mode="constant"
    )


def _to_voxels_of(target: Any, source: Any) -> np.ndarray:
    """What takes voxels of `source` to voxels of `target`, by where the viewer shows them."""
    return np.linalg.inv(to_world(target)) @ to_world(source)


def lies_on_grid(labels: Any, layer: Any) -> bool:
    """Whether a Labels layer has the voxels of `layer`, in the same order or flipped."""
    return fits_shape(labels, shape_of(layer)) and _flips(labels, layer) is not None


def mask_on_grid(labels: Any, layer: Any) -> np.ndarray | None:
    """Where a Labels layer is not 0, on the voxels of `layer`; None if it has other voxels."""
    if not fits_shape(labels, shape_of(layer)):
        return None
    flips = _flips(labels, layer)
    return None if flips is None else np.ascontiguousarray((np.asarray(labels.data) != 0)[flips])


def _flips(labels: Any, layer: Any) -> tuple[slice, ...] | None:
    """What orders the voxels of a Labels layer as those of `layer`, which has the same shape."""
    matrix = _to_voxels_of(labels, layer)
    signs = np.where(np.diag(matrix)[:3] > 0, 1, -1)
    begins = np.where(signs > 0, 0, np.array(shape_of(layer)) - 1)
    apart = np.abs(matrix[:3, :3] - np.diag(signs)) @ shape_of(layer)
    if (apart + np.abs(matrix[:3, 3] - begins)).max() >= 0.5:
        return None
    return tuple(slice(None, None, int(sign)) for sign in signs)
