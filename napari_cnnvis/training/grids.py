"""The grids that a study's scans lie on, and what that says of a network's input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import nibabel as nib
import numpy as np
from nibabel.orientations import aff2axcodes, axcodes2ornt, io_orientation, ornt_transform

from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.files import read_place

__all__ = ["Grid", "completed", "other_grids", "read_grid", "unlike_most"]

Kind = TypeVar("Kind", bound=Hashable)


@dataclass(frozen=True)
class Grid:
    """Of a scan's file, with its axes in the order right-left, front-back, top-bottom.

    Attributes
    ----------
    shape : tuple of int
    spacing : tuple of float
        Millimetres.
    orientation : str
        Where the axes of the file point to, such as "LPS"; "" where it does not say.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    orientation: str

    def __str__(self) -> str:
        voxels = " x ".join(map(str, self.shape))
        return f"{voxels} voxels of {' x '.join(f'{s:g}' for s in self.spacing)} mm"


def read_grid(path: Path) -> Grid | None:
    """The grid of a scan, None if its header cannot be read or it is not one volume."""
    try:
        shape, place_in_space = read_place(path)
        affine, known = place_in_space.affine, place_in_space.orientation_known
        shape = tuple(n for n in shape if n > 1)
        spacing = np.round(nib.affines.voxel_sizes(affine), 2)
        if len(shape) != 3:
            return None
        orientation = "".join(aff2axcodes(affine))
        order = ornt_transform(io_orientation(affine), axcodes2ornt("RAS"))[:, 0].astype(int)
        place = np.argsort(order)
        return Grid(
            tuple(shape[axis] for axis in place),
            tuple(spacing[place].tolist()),
            orientation if known else "",
        )
    except Exception:  # nibabel raises all kinds; the file is refused when it is read
        return None


def completed(spec: InputSpec, grids: Iterable[Grid | None]) -> InputSpec:
    """`spec` with the orientation, voxel size and size that most scans have, where it says nothing.

    A checkpoint that says how its scans lay can be given scans that lie otherwise. Steps say
    it themselves.
    """
    if spec.steps:
        return spec
    found = [grid for grid in grids if grid is not None]
    orientation = spec.orientation or _most_common(g.orientation for g in found if g.orientation)
    spacing, shape = spec.spacing, spec.shape
    common = _most_common((grid.spacing, grid.shape) for grid in found)
    if spacing is None and orientation and common is not None and not spec.resize:
        axes = axcodes2ornt(orientation)[:, 0].astype(int)
        spacing = tuple(common[0][axis] for axis in axes)
        shape = shape or tuple(common[1][axis] for axis in axes)
    return replace(spec, orientation=orientation, spacing=spacing, shape=shape)


def other_grids(grids: dict[int, Grid | None]) -> list[tuple[int, str]]:
    """The rows whose scans have another shape or voxel size than most, and what is wrong."""
    sizes = {row: replace(grid, orientation="") for row, grid in grids.items() if grid is not None}
    remedy = "resample it, or give --spacing and --shape"
    return [(row, f"{text}; {remedy}") for row, text in unlike_most(sizes)]


def unlike_most(values: dict[int, Hashable]) -> list[tuple[int, str]]:
    """The rows with another value than most rows have, and what both are."""
    usual = _most_common(values.values())
    return [
        (row, f"{value}, where most scans have {usual}")
        for row, value in values.items()
        if value != usual
    ]


def _most_common(values: Iterable[Kind]) -> Kind | None:
    counts = Counter(values).most_common(1)
    return counts[0][0] if counts else None
