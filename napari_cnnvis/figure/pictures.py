"""The pictures of each layout: which slices, which views, what is written below them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.figure.arrange import columns_for
from napari_cnnvis.figure.geometry import VIEWS, View, millimetres, slice_views, voxel_at
from napari_cnnvis.figure.labels import millimetre_text
from napari_cnnvis.figure.projections import project_map, project_scan
from napari_cnnvis.figure.raster import Picture
from napari_cnnvis.figure.spec import FigureSpec
from napari_cnnvis.scan.head import head_of
from napari_cnnvis.scan.volume import Volume

__all__ = ["Subject", "rows_of"]

#: millimetres that stay around the head
_AIR = 4.0
#: share of the colours' upper limit from which a value counts when the air is cropped
_SEEN = 0.1
#: brightness below which the rim of a view fades into the page
_RIM = 0.25
_AXIS = {"sagittal": 0, "coronal": 1, "axial": 2}


@dataclass(frozen=True, eq=False)
class Subject:
    """Scan and map with axes R, A, S.

    Attributes
    ----------
    scan : Volume
    values : array
        The map.
    head : array, bool
    limits : (float, float)
        Values at the ends of the colours.
    """

    scan: Volume
    values: np.ndarray
    head: np.ndarray
    limits: tuple[float, float] = (0.0, 1.0)

    @classmethod
    def of(cls, scan: Volume, values: np.ndarray, notes: list[str]) -> Subject:
        """With the scan's head; `notes` says if that is a mask of its own, or if there is none."""
        if scan.head is not None:
            notes.append(f"The head is that of the mask '{scan.head_name}'.")
        try:
            head = head_of(scan)
        except CnnVisError:
            notes.append("The scan has one value everywhere.")
            head = np.ones(scan.shape, bool)
        return cls(scan, values, head)

    def gray(self, limits: tuple[float, float] | None) -> np.ndarray:
        """The scan from 0 (black) to 1 (white), float32."""
        data = self.scan.data
        if limits is None:
            limits = np.percentile(data, 1), np.percentile(data[self.head], 99.8)
        low, high = limits
        if not low < high:
            return np.full(data.shape, 0.5, np.float32)
        return np.clip((data - np.float32(low)) / np.float32(high - low), 0, 1)

    def cropped(self, threshold: float, keep: list[tuple[int, int, int]]) -> Subject:
        """Without the air around the head where the map is empty; `keep` are voxels that stay."""
        seen = np.abs(self.values) >= max(threshold, _SEEN * self.limits[1])
        wanted = self.head | seen
        box = []
        for axis, spacing in enumerate(self.scan.spacing):
            others = tuple(a for a in range(3) if a != axis)
            indices = np.flatnonzero(wanted.any(axis=others))
            kept = [voxel[axis] for voxel in keep]
            low, high = min([indices[0], *kept]), max([indices[-1], *kept])
            air = int(np.ceil(_AIR / spacing))
            box.append(slice(max(0, low - air), min(wanted.shape[axis], high + air + 1)))
        place = tuple(box)
        affine = self.scan.affine.copy()
        affine[:3, 3] = millimetres(affine, tuple(s.start for s in place))
        scan = replace(self.scan.with_head(None), data=self.scan.data[place], affine=affine)
        return Subject(scan, self.values[place], self.head[place], self.limits)

    def middle(self) -> tuple[int, int, int]:
        """The voxel in the middle of the head."""
        ends = [np.flatnonzero(self.head.any(axis=o))[[0, -1]] for o in ((1, 2), (0, 2), (0, 1))]
        return tuple(int(end.sum() // 2) for end in ends)

    def peak(self) -> tuple[int, int, int]:
        """The voxel of the map's largest size; the middle of the head if it is empty."""
        if not self.values.any():
            return self.middle()
        return tuple(
            int(i) for i in np.unravel_index(np.abs(self.values).argmax(), self.values.shape)
        )


def rows_of(subject: Subject, spec: FigureSpec) -> tuple[list[list[Picture]], list[str]]:
    """Rows of pictures for the layout, and notes.

    Raises
    ------
    VolumeError
        If a position or the span lies outside the scan.
    """
    notes: list[str] = []
    if spec.layout == "views":
        if spec.crop:
            subject = subject.cropped(spec.threshold, [])
        return _views(subject, spec), notes
    if spec.layout == "slices":
        if spec.positions is None:
            voxels = [subject.peak()]
            value = subject.values[voxels[0]]
            where = ", ".join(
                millimetre_text(letter, mm).removesuffix(" mm")
                for letter, mm in zip(
                    "xyz", millimetres(subject.scan.affine, voxels[0]), strict=True
                )
            )
            if value:
                notes.append(f"The slices go through the map's peak, {value:.4g} at {where} mm.")
        else:
            voxels = [voxel_at(subject.scan, point) for point in spec.positions]
        rows = [[(plane, voxel[axis]) for plane, axis in _AXIS.items()] for voxel in voxels]
    else:
        indices = _lightbox_indices(subject, spec)
        if len(indices) < spec.count:
            notes.append(f"There are {len(indices)} slices to show, not {spec.count}.")
        voxels = [_on_axis(subject, _AXIS[spec.axis], index) for index in indices]
        rows = [[(spec.axis, index) for index in indices]]
    if spec.crop:
        points = [tuple(millimetres(subject.scan.affine, voxel)) for voxel in voxels]
        before = subject.scan
        subject = subject.cropped(spec.threshold, voxels)
        moved = np.subtract(voxel_at(subject.scan, points[0]), voxel_at(before, points[0]))
        rows = [[(plane, n + int(moved[_AXIS[plane]])) for plane, n in row] for row in rows]
    return _slices(subject, spec, rows), notes


def _on_axis(subject: Subject, axis: int, index: int) -> tuple[int, int, int]:
    voxel = list(subject.middle())
    voxel[axis] = index
    return tuple(voxel)


def _lightbox_indices(subject: Subject, spec: FigureSpec) -> list[int]:
    axis = _AXIS[spec.axis]
    if spec.span is None:
        filled = np.flatnonzero(subject.head.any(axis=tuple(a for a in range(3) if a != axis)))
        inset = 0.04 * (filled[-1] - filled[0])
        first, last = filled[0] + inset, filled[-1] - inset
    else:
        middle = millimetres(subject.scan.affine, subject.middle())
        ends = []
        for end in spec.span:
            point = middle.copy()
            point[axis] = end
            ends.append(voxel_at(subject.scan, tuple(point))[axis])
        first, last = sorted(ends)
    even = np.linspace(first, last, spec.count) if spec.count > 1 else [(first + last) / 2]
    return sorted({int(n) for n in np.floor(np.asarray(even) + 0.5)})


def _slices(
    subject: Subject, spec: FigureSpec, rows: list[list[tuple[str, int]]]
) -> list[list[Picture]]:
    views, scan = slice_views(spec.side), subject.scan
    gray, solid = subject.gray(spec.scan_limits), _solid(subject, spec)
    centre = (np.array(scan.shape) - 1) / 2

    def picture(plane: str, index: int) -> Picture:
        view = views[plane]
        voxel = centre.copy()
        voxel[view.axis] = index
        caption = millimetre_text("xyz"[view.axis], millimetres(scan.affine, voxel)[view.axis])
        layers = (view.picture(data, index) for data in (gray, subject.values, solid))
        return _picture(subject, view, *layers, None, caption)

    if spec.layout == "lightbox":
        (indices,) = rows
        height, width = views[spec.axis].size(scan.spacing, scan.shape)
        columns = columns_for(len(indices), height, width)
        rows = [indices[n : n + columns] for n in range(0, len(indices), columns)]
    return [[picture(*which) for which in row] for row in rows]


def _views(subject: Subject, spec: FigureSpec) -> list[list[Picture]]:
    gray, spacing = subject.gray(spec.scan_limits), subject.scan.spacing
    inside = np.where(subject.head, gray, np.float32(0))
    whole = _solid(subject, spec)

    def picture(name: str) -> Picture:
        view = VIEWS[name]
        values, near = project_map(subject.values, subject.head, view, spacing)
        shown = project_scan(inside, view, spacing)
        solid = view.laid_out(whole).max(axis=0)
        if spec.background != "black":  # dark voxels at the rim would be a jagged outline
            solid = solid * np.clip(shown / _RIM, 0, 1)
        return _picture(
            subject,
            view,
            shown,
            values,
            solid,
            near,
            f"{name} view",
        )

    return [
        [picture(name) for name in row]
        for row in (("left", "anterior", "superior"), ("right", "posterior", "inferior"))
    ]


def _solid(subject: Subject, spec: FigureSpec) -> np.ndarray:
    """Opacity of the scan: on black all of it, else the head alone."""
    if spec.background == "black":
        return np.ones(subject.scan.shape, np.float32)
    return subject.head.astype(np.float32)


def _picture(
    subject: Subject,
    view: View,
    gray: np.ndarray,
    values: np.ndarray,
    solid: np.ndarray,
    near: np.ndarray | None,
    caption: str,
) -> Picture:
    height, width = view.size(subject.scan.spacing, subject.scan.shape)
    known = subject.scan.orientation_known
    ends = (view.left, view.right) if known else ("", "")
    return Picture(gray, values, solid, near, height, width, caption, ends)
