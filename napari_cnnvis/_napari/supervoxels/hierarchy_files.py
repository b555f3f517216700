"""Hierarchies from and to files, turned to and from the axes of a scan's layer.

Layers show scans with axes (superior, anterior, right). In files, hierarchies and
label volumes have the axes of the scan's own file; images have those of their affine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_cnnvis._napari.layers.scans import layer_to_volume
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.reading import source_file
from napari_cnnvis.scan.files import read_place
from napari_cnnvis.scan.volume import Volume
from napari_cnnvis.ucm.hierarchy import Hierarchy
from napari_cnnvis.writing import check_output

__all__ = ["read_hierarchy", "stored_orientation", "write_hierarchy"]

_PLAIN = (".npy", ".npz")


def read_hierarchy(paths: Sequence[str], scan: Volume, stored: str) -> Hierarchy:
    """A saved hierarchy, or one from label volumes, for the layer of a scan.

    Parameters
    ----------
    paths : sequence of str
        One saved hierarchy, or label volumes, or one folder of PPM slices. 0 is
        background in label volumes; in PPM slices each colour is a region.
    scan : Volume
        With the axes of its layer.
    stored : str
        The orientation of the scan's file, such as "LAS".

    Raises
    ------
    VolumeError
        If a file cannot be read, or does not fit the scan.
    """
    folder = Path(paths[0]).is_dir()
    source = paths[0] if len(paths) == 1 else paths
    hierarchy = Hierarchy.read(source, background=None if folder else 0)
    in_file = scan.reoriented(stored)
    affine = in_file.affine
    if not folder and not paths[0].lower().endswith(_PLAIN) and scan.orientation_known:
        affine = read_place(paths[0])[1].affine
    leaves = Volume(hierarchy.leaves, affine).reoriented(scan.orientation)
    name = Path(paths[0]).name
    if leaves.shape != scan.shape:
        raise VolumeError(
            f"{name} has {_size(hierarchy.leaves.shape)} voxels, but the scan "
            f"{_size(in_file.shape)}; resample it to the scan first."
        )
    corners = np.array([[0, 0, 0, 1], [*scan.shape, 1]]).T
    apart = np.abs((leaves.affine - scan.affine) @ corners).max()
    if apart > 0.5 * max(scan.spacing):
        raise VolumeError(
            f"{name} is {apart:.3g} mm away from the scan; resample it to the scan first. If its "
            "header is wrong, open it as a Labels layer and take it from there."
        )
    return replace(hierarchy, leaves=leaves.data.astype(np.int32))


def write_hierarchy(hierarchy: Hierarchy, path: str, attributes: dict[str, Any]) -> Path:
    """Save a hierarchy (``.npz``) or its levels as label volumes (``.nii.gz``, ``.nii``, ``.npy``).

    `attributes` are the scale and metadata of the scan's layer. A file that is there is
    replaced, but for the scan's.

    Raises
    ------
    VolumeError
        If the file cannot be written.
    """
    from napari_cnnvis.ucm.files import write_levels

    leaves = layer_to_volume(hierarchy.leaves, attributes)
    leaves = leaves.reoriented(stored_orientation(leaves))
    turned = replace(hierarchy, leaves=leaves.data.astype(np.int32))
    check_output(path, [source_file(leaves.source)[0]], overwrite=True)
    if path.lower().endswith(".npz"):
        return turned.save(path, overwrite=True)
    return write_levels(turned, path, leaves.affine, overwrite=True)


def stored_orientation(volume: Volume) -> str:
    """Orientation of the file that a layer's volume came from; its own where it is not known."""
    return volume.stored_orientation or volume.orientation


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
