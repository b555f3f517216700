"""How alike two maps are: rank correlation and structural similarity."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import rankdata

from napari_cnnvis.errors import MethodError

__all__ = ["Similarity", "compare_maps"]

#: voxels along a side of SSIM's window
_WINDOW = 7


@dataclass(frozen=True)
class Similarity:
    """How alike two maps are inside a mask; None where one of them has a single value there.

    Attributes
    ----------
    spearman : float or None
        Rank correlation of the values, -1 to 1.
    spearman_absolute : float or None
        Of the absolute values: 1 as well if one map is the negative of the other.
    ssim : float or None
        Mean structural similarity, at most 1, of the maps divided by their own largest
        absolute value.
    ssim_absolute : float or None
        Of the absolute values.
    """

    spearman: float | None
    spearman_absolute: float | None
    ssim: float | None
    ssim_absolute: float | None

    @property
    def strongest(self) -> float | None:
        """The larger of the two rank correlations: the maps mark the same places."""
        known = [v for v in (self.spearman, self.spearman_absolute) if v is not None]
        return max(known, default=None)

    def to_dict(self) -> dict[str, float | None]:
        """The numbers as plain values."""
        return asdict(self)


def compare_maps(a: np.ndarray, b: np.ndarray, inside: np.ndarray | None = None) -> Similarity:
    """Compare two maps voxel by voxel, as in sanity checks of maps (arXiv:1810.03292).

    Parameters
    ----------
    a, b : arrays, shape (i, j, k)
        The maps, in any unit: only ranks count for Spearman, and each is divided by its
        largest absolute value inside for SSIM.
    inside : array of bool, same shape, optional
        The voxels that count, such as the brain; all by default. SSIM sees 0 outside, and
        is averaged over the voxels inside.

    Returns
    -------
    Similarity

    Raises
    ------
    MethodError
        If the shapes differ or nothing is inside.

    Examples
    --------
    >>> a = np.arange(512.0).reshape(8, 8, 8)
    >>> compare_maps(a, -a).spearman
    -1.0
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    inside = np.ones(a.shape, bool) if inside is None else np.asarray(inside, bool)
    if not a.shape == b.shape == inside.shape:
        raise MethodError(
            f"The maps have {a.shape} and {b.shape} voxels and the mask {inside.shape}; they have "
            "to be on the same grid."
        )
    if not inside.any():
        raise MethodError("The mask is empty, so there is nothing to compare.")
    return Similarity(
        _spearman(a[inside], b[inside]),
        _spearman(np.abs(a[inside]), np.abs(b[inside])),
        _ssim(a, b, inside),
        _ssim(np.abs(a), np.abs(b), inside),
    )


def _spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Pearson's correlation of the ranks, ties sharing a rank."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    ranks = [rankdata(values) for values in (a, b)]
    x, y = (r - r.mean() for r in ranks)
    return float(np.clip((x @ y) / np.sqrt((x @ x) * (y @ y)), -1, 1))


def _ssim(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> float | None:
    from skimage.metrics import structural_similarity

    box = _box(inside)
    inside = inside[box]
    scaled = []
    for given in (a[box], b[box]):
        values = np.where(inside, given, 0)
        peak = np.abs(values).max()
        if peak == 0 or np.ptp(values[inside]) == 0:
            return None
        scaled.append(values / peak)
    width = min(_WINDOW, *inside.shape)
    width -= 1 - width % 2
    if width < 3:
        return None  # too thin for a window
    span = 2.0 if min(values.min() for values in scaled) < 0 else 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, full = structural_similarity(*scaled, win_size=width, data_range=span, full=True)
    return float(full[inside].mean())


def _box(inside: np.ndarray) -> tuple[slice, ...]:
    """The mask's bounding box with a margin of half a window."""
    slices = []
    for axis in range(inside.ndim):
        others = tuple(a for a in range(inside.ndim) if a != axis)
        places = np.flatnonzero(inside.any(axis=others))
        low = max(0, int(places[0]) - _WINDOW // 2)
        slices.append(slice(low, int(places[-1]) + 1 + _WINDOW // 2))
    return tuple(slices)
