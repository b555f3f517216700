"""Does a map find a region that is known to matter?

All scores take the map signed: higher should mean "in the region". Voxels of the same value
are never put into an order: a score is what it would be on average over all orders, so that
maps of few values, such as those of supervoxels, get neither luck nor bad luck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from napari_cnnvis.errors import MethodError

__all__ = [
    "LocalisationScores",
    "RankedMap",
    "average_precision",
    "best_dice",
    "localise",
    "mass_accuracy",
    "near",
    "pointing_hit",
    "rank_accuracy",
    "roc_auc",
]


@dataclass(frozen=True)
class LocalisationScores:
    """How well a map finds a region; each is 1 at best.

    Attributes
    ----------
    roc_auc : float
        0.5 for chance, whatever the region's size; below if the map is upside down.
    average_precision : float
        ``share`` for chance.
    best_dice : float
        Dice at the threshold that suits best. It is chosen with the truth, so that the
        value is optimistic; a map that says nothing gets 2 share / (1 + share).
    mass_accuracy : float
        Positive values inside the region, as a share of all; about ``share`` for chance.
    rank_accuracy : float
        Of the highest voxels, as many as the region has, the share that lies in it;
        ``share`` for chance.
    pointing_hit : float
        1 if the map's maximum lies in the region or near it, 0 if not.
    share : float
        The region's part of the voxels that count: what to compare the others with.
    """

    roc_auc: float
    average_precision: float
    best_dice: float
    mass_accuracy: float
    rank_accuracy: float
    pointing_hit: float
    share: float


class RankedMap:
    """The voxels of a map that count, sorted once; regions are then scored in a few ms each.

    Parameters
    ----------
    values : array
        The map, signed.
    inside : array of bool, same shape, optional
        The voxels that count, such as the brain; all by default.

    Raises
    ------
    MethodError
        If the shapes differ, no voxel counts, or a voxel that counts is NaN or infinite.
    """

    def __init__(self, values: np.ndarray, inside: np.ndarray | None = None) -> None:
        values = np.asarray(values)
        self._inside = _mask(inside, values.shape, "what counts")
        self._shape = values.shape
        chosen = values.ravel() if self._inside is None else values[self._inside]
        if not chosen.size:
            raise MethodError("No voxel counts; give a mask of the brain that is not empty.")
        if not np.isfinite(chosen).all():
            raise MethodError(
                f"The map has {int((~np.isfinite(chosen)).sum())} voxels that are NaN or infinite; "
                "it cannot be ranked."
            )
        self._order = np.argsort(chosen)[::-1]
        self._sorted = chosen[self._order].astype(np.float64)
        last = np.flatnonzero(self._sorted[1:] != self._sorted[:-1])
        #: for each distinct value, the highest first: how many voxels are at or above it
        self._above = np.append(last, chosen.size - 1) + 1

    def roc_auc(self, region: np.ndarray) -> float:
        """See the function `roc_auc`; so for the methods below."""
        hits, positives = self._hits(region)
        negatives = int(self._above[-1]) - positives
        if not positives or not negatives:
            raise MethodError("The region is empty, or fills all voxels that count; no AUC exists.")
        below = self._above - hits
        won = np.diff(hits, prepend=0) * (negatives - (below + np.append(0, below[:-1])) / 2)
        return float(won.sum() / (positives * negatives))

    def average_precision(self, region: np.ndarray) -> float:
        hits, positives = self._found(region)
        return float((np.diff(hits, prepend=0) * (hits / self._above)).sum() / positives)

    def best_dice(self, region: np.ndarray) -> float:
        hits, positives = self._found(region)
        return float((2 * hits / (self._above + positives)).max())

    def mass_accuracy(self, region: np.ndarray) -> float:
        self._found(region)
        mass = np.maximum(self._sorted, 0)
        total = mass.sum()
        return float(mass[self._region(region)].sum() / total) if total else 0.0

    def rank_accuracy(self, region: np.ndarray) -> float:
        hits, positives = self._found(region)
        return float(
            np.interp(positives, np.append(0, self._above), np.append(0, hits)) / positives
        )

    def pointing_hit(self, near_region: np.ndarray) -> float:
        """Share of the highest voxels that lie in a region, widened by the tolerance: see `near`."""
        hits, _ = self._found(near_region)
        return float(hits[0] / self._above[0])

    def scores(
        self, region: np.ndarray, near_region: np.ndarray | None = None
    ) -> LocalisationScores:
        """All scores of a region.

        Parameters
        ----------
        region : array of bool, shape of the map
        near_region : array of bool, shape of the map, optional
            Where the maximum counts as a hit; `region` by default.

        Raises
        ------
        MethodError
            If the shapes differ, or the region is empty or fills all that counts.
        """
        _, positives = self._hits(region)
        return LocalisationScores(
            self.roc_auc(region),
            self.average_precision(region),
            self.best_dice(region),
            self.mass_accuracy(region),
            self.rank_accuracy(region),
            self.pointing_hit(region if near_region is None else near_region),
            positives / int(self._above[-1]),
        )

    def _region(self, region: np.ndarray) -> np.ndarray:
        """Whether each voxel that counts is in the region, from the highest to the lowest."""
        region = _mask(region, self._shape, "the region")
        return (region.ravel() if self._inside is None else region[self._inside])[self._order]

    def _hits(self, region: np.ndarray) -> tuple[np.ndarray, int]:
        """For each distinct value, how many voxels at or above it are in the region; and all."""
        hits = np.cumsum(self._region(region))[self._above - 1]
        return hits, int(hits[-1])

    def _found(self, region: np.ndarray) -> tuple[np.ndarray, int]:
        hits, positives = self._hits(region)
        if not positives:
            raise MethodError("The region has no voxel among those that count.")
        return hits, positives


def roc_auc(values: np.ndarray, truth: np.ndarray, inside: np.ndarray | None = None) -> float:
    """Area under the ROC curve of a map against a region, ties counted half.

    Parameters
    ----------
    values : array
        The map, signed; higher should mean "in the region".
    truth : array of bool, same shape
        The region.
    inside : array of bool, same shape, optional
        The voxels that count, such as the brain; all by default.

    Returns
    -------
    float
        1 if the region has the highest values, 0.5 for chance, below if upside down.

    Raises
    ------
    MethodError
        If the region is empty or fills everything that counts, a voxel is NaN, or the
        shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_cnnvis as cv
    >>> cv.roc_auc(np.array([3.0, 1.0, 2.0, 0.0]), np.array([True, True, False, False]))
    0.75
    """
    return RankedMap(values, inside).roc_auc(truth)


def average_precision(
    values: np.ndarray, truth: np.ndarray, inside: np.ndarray | None = None
) -> float:
    """Mean precision over the thresholds, weighted by the recall that each adds.

    ``sum_n (R_n - R_{n-1}) P_n``, as `sklearn.metrics.average_precision_score`. Unlike the
    ROC curve it does not reward what is right about the many voxels far from a small region.
    Parameters and errors as in `roc_auc`, but the region may fill everything.

    Returns
    -------
    float
        1 at best; the region's share of the voxels for chance.
    """
    return RankedMap(values, inside).average_precision(truth)


def best_dice(values: np.ndarray, truth: np.ndarray, inside: np.ndarray | None = None) -> float:
    """Largest Dice overlap of a region with the voxels above any threshold.

    The threshold is chosen with the truth, so that the value is optimistic: without the
    truth nobody knows it. Parameters and errors as in `average_precision`.

    Returns
    -------
    float
        ``2 |A and B| / (|A| + |B|)``; 1 at best, never below that of all voxels.
    """
    return RankedMap(values, inside).best_dice(truth)


def mass_accuracy(values: np.ndarray, truth: np.ndarray, inside: np.ndarray | None = None) -> float:
    """Share of the positive values that lies in a region (Arras et al. 2020, arXiv:2003.07258).

    Parameters and errors as in `average_precision`.

    Returns
    -------
    float
        1 at best; 0 also for a map without positive values.
    """
    return RankedMap(values, inside).mass_accuracy(truth)


def rank_accuracy(values: np.ndarray, truth: np.ndarray, inside: np.ndarray | None = None) -> float:
    """Of the highest voxels, as many as a region has, the share that lies in the region.

    Relevance rank accuracy of Arras et al. 2020 (arXiv:2003.07258). Of voxels of the same
    value at the limit, the expected number counts. Parameters and errors as in
    `average_precision`.
    """
    return RankedMap(values, inside).rank_accuracy(truth)


def pointing_hit(
    values: np.ndarray,
    truth: np.ndarray,
    inside: np.ndarray | None = None,
    tolerance: float = 0.0,
    spacing: Sequence[float] | None = None,
) -> float:
    """Whether a map's maximum lies in a region: the pointing game (arXiv:1608.00507).

    Parameters
    ----------
    values, truth, inside
        As in `roc_auc`.
    tolerance : float
        How far from the region the maximum may lie, in mm if `spacing` is given, else in
        voxels.
    spacing : three floats, optional
        Millimetres between voxels.

    Returns
    -------
    float
        1 or 0; if there are several maxima, the share of them that hit.

    Raises
    ------
    MethodError
        As `average_precision`, or if the tolerance is below 0.
    """
    truth = _mask(truth, np.shape(values), "the region")
    return RankedMap(values, inside).pointing_hit(near(truth, tolerance, spacing))


def localise(
    values: np.ndarray,
    truth: np.ndarray,
    inside: np.ndarray | None = None,
    tolerance: float = 0.0,
    spacing: Sequence[float] | None = None,
) -> LocalisationScores:
    """All scores of a map against a region, from one sort of its voxels.

    Parameters and errors as in `roc_auc` and `pointing_hit`.

    Examples
    --------
    >>> truth = np.array([True, True, False, False])
    >>> localise(np.array([3.0, 1.0, 2.0, 0.0]), truth).roc_auc
    0.75
    """
    ranked = RankedMap(values, inside)
    return ranked.scores(truth, near(truth, tolerance, spacing))


def near(
    region: np.ndarray, tolerance: float, spacing: Sequence[float] | None = None
) -> np.ndarray:
    """A region and all voxels whose centre is at most so far from the centre of one of its.

    Parameters
    ----------
    region : array of bool
    tolerance : float
        In mm if `spacing` is given, else in voxels.
    spacing : sequence of float, optional
        Millimetres between voxels along each axis.

    Raises
    ------
    MethodError
        If the tolerance is not a number from 0 on.
    """
    if not 0 <= tolerance < np.inf:
        raise MethodError(f"A tolerance of {tolerance} is not a distance from 0 on.")
    region = np.asarray(region, bool)
    if tolerance == 0 or not region.any():
        return region
    steps = np.ones(region.ndim) if spacing is None else np.asarray(spacing, float)
    reach = np.ceil(tolerance / steps).astype(int)
    part = tuple(
        slice(max(0, found.start - r), found.stop + r)
        for found, r in zip(ndimage.find_objects(region.astype(np.int8))[0], reach, strict=True)
    )
    result = region.copy()
    away = ndimage.distance_transform_edt(~region[part], sampling=steps)
    result[part] = away <= tolerance * (1 + 1e-9)
    return result


def _mask(mask: np.ndarray | None, shape: tuple[int, ...], what: str) -> np.ndarray | None:
    if mask is None:
        return None
    mask = np.asarray(mask)
    if mask.shape != shape:
        raise MethodError(
            f"The map has shape {shape}, but the mask of {what} {mask.shape}; "
            "both have to be on the same grid."
        )
    return mask.astype(bool, copy=False)
