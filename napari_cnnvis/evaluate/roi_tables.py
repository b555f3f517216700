"""How much of a map lies in each region of an atlas."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine
from scipy.stats import rankdata

from napari_cnnvis.errors import MethodError
from napari_cnnvis.writing import atomic_path, check_output

__all__ = ["CSV_COLUMNS", "RoiRow", "roi_table", "write_roi_csv"]

#: the header of the files that `write_roi_csv` writes
CSV_COLUMNS = (
    "rank",
    "label",
    "name",
    "volume_mm3",
    "mean",
    "share_of_positive_mass",
    "share_of_negative_mass",
    "peak",
    "peak_x_mm",
    "peak_y_mm",
    "peak_z_mm",
)


@dataclass(frozen=True)
class RoiRow:
    """A map in one region.

    Attributes
    ----------
    label : int
    name : str
        "" if it has none.
    volume_mm3 : float
    mean : float
        Mean of the map over the region.
    share_of_positive_mass, share_of_negative_mass : float
        Sum of the region's positive (negative) values, as a share of that of the whole
        map, what lies outside all regions included; 0 if the map has none.
    peak : float
        The region's value that is farthest from 0.
    peak_mm : (float, float, float)
        Where it is, in RAS mm; the first voxel if there are several.
    rank : int
        1 for the highest mean; regions with the same mean share a rank.
    """

    label: int
    name: str
    volume_mm3: float
    mean: float
    share_of_positive_mass: float
    share_of_negative_mass: float
    peak: float
    peak_mm: tuple[float, float, float]
    rank: int


def roi_table(
    map: np.ndarray,
    labels: np.ndarray,
    names: Mapping[int, str] | None = None,
    *,
    affine: np.ndarray,
) -> list[RoiRow]:
    """A map in each region of a label volume.

    Parameters
    ----------
    map : array, shape (i, j, k)
    labels : integer array, shape (i, j, k)
        0 is no region.
    names : dict of int to str, optional
        Names of labels.
    affine : array, shape (4, 4)
        Voxels to RAS mm.

    Returns
    -------
    list of RoiRow
        By rank; regions of the same rank by label.

    Raises
    ------
    MethodError
        If the two differ in shape, the labels are not integers, or there is no region.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> from napari_cnnvis.evaluate import roi_table
    >>> halves = np.ones(volume.shape, int)
    >>> halves[12:] = 2
    >>> result = cv.grad_cam(model, volume, "lesion")
    >>> rows = roi_table(result.data, halves, {1: "left", 2: "right"}, affine=volume.affine)
    >>> [(row.name, round(row.share_of_positive_mass, 2)) for row in rows]
    [('right', 0.94), ('left', 0.06)]
    """
    map, labels = np.asarray(map), np.asarray(labels)
    if map.shape != labels.shape:
        raise MethodError(
            f"The map has {map.shape} voxels, but the label volume {labels.shape}; they have to "
            "be on the same grid."
        )
    if labels.dtype.kind not in "biu":
        raise MethodError(f"The label volume holds {labels.dtype} values; integers are needed.")
    flat = np.flatnonzero(labels)
    if not len(flat):
        raise MethodError("The label volume has no region: all its voxels are 0.")
    values = map.ravel()
    present, of = _numbered(labels.ravel()[flat])
    inside = values[flat].astype(np.float64)
    count = np.bincount(of)
    mean = np.bincount(of, inside) / count
    peak = _strongest(of, np.abs(values[flat]), len(present))
    where = np.stack(np.unravel_index(flat[peak], map.shape), axis=1)
    mm = apply_affine(affine, where)
    volume = count * abs(float(np.linalg.det(np.asarray(affine)[:3, :3])))
    positive = _shares(of, np.maximum(inside, 0), np.maximum(values, 0))
    negative = _shares(of, np.maximum(-inside, 0), np.maximum(-values, 0))
    rank = rankdata(-mean, method="min")
    names = names or {}
    return [
        RoiRow(
            int(present[r]),
            str(names.get(int(present[r]), "")),
            float(volume[r]),
            float(mean[r]),
            float(positive[r]),
            float(negative[r]),
            float(inside[peak[r]]),
            tuple(mm[r].tolist()),
            int(rank[r]),
        )
        for r in np.argsort(rank, kind="stable")
    ]


def write_roi_csv(rows: Sequence[RoiRow], path: str | os.PathLike, overwrite: bool = False) -> Path:
    """Write the table as CSV (UTF-8, with the header `CSV_COLUMNS`), complete or not at all.

    Numbers are written with all their digits.

    Raises
    ------
    VolumeError
        If the file cannot be written, or is there and `overwrite` is not said.
    """
    path = check_output(path, overwrite=overwrite)
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        for r in rows:
            shares = (r.share_of_positive_mass, r.share_of_negative_mass)
            writer.writerow(
                (r.rank, r.label, r.name, r.volume_mm3, r.mean, *shares, r.peak, *r.peak_mm)
            )
    return path


def _numbered(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels that there are, rising, and for each voxel the number of its own among them."""
    if labels.dtype.kind == "b":
        labels = labels.astype(np.uint8)
    if labels.min() < 0 or labels.max() > 4 * len(labels) + 100_000:
        present, of = np.unique(labels, return_inverse=True)
        return present, of.reshape(-1)
    present = np.flatnonzero(np.bincount(labels))
    number = np.zeros(int(present[-1]) + 1, np.int64)
    number[present] = np.arange(len(present))
    return present, number[labels]


def _strongest(of: np.ndarray, strength: np.ndarray, count: int) -> np.ndarray:
    """For each number the index of its first voxel of the highest strength."""
    best = np.full(count, -np.inf, strength.dtype)
    np.maximum.at(best, of, strength)
    at_best = np.flatnonzero(strength == best[of])[::-1]
    first = np.zeros(count, np.int64)
    first[of[at_best]] = at_best  # the first one is written last
    return first


def _shares(of: np.ndarray, inside: np.ndarray, everywhere: np.ndarray) -> np.ndarray:
    total = float(everywhere.sum(dtype=np.float64))
    mass = np.bincount(of, inside)
    return mass / total if total > 0 else np.zeros_like(mass)
