"""Labels and masks that are stored as fractions: whole numbers, but for what scaling has lost."""

from __future__ import annotations

import numpy as np

__all__ = ["whole_numbers"]

#: so far off whole numbers labels are, after scaling by small steps or in single precision
_OFF = 0.01
#: with larger steps between stored values, those of any scan are near whole numbers
_LARGEST_STEP = 0.5


def whole_numbers(data: np.ndarray, step: float = 0.0) -> np.ndarray | None:
    """The whole numbers that an array holds, whatever it keeps them as.

    Parameters
    ----------
    data : array
    step : float
        Between the values that its file can store (its slope); half of it can be lost.

    Returns
    -------
    array or None
        As it is if all its values are whole numbers, rounded if they are a hair off;
        None if they are not.

    Examples
    --------
    >>> whole_numbers(np.array([0.0, 17.0003, 52.9999]))
    array([ 0., 17., 53.])
    >>> whole_numbers(np.array([0.0, 0.5])) is None
    True
    """
    if data.dtype.kind in "biu":
        return data
    if not np.isfinite(data).all():
        return None
    whole = np.rint(data)
    off = np.abs(data - whole).max(initial=0.0)
    lost = 0.51 * step if step <= _LARGEST_STEP else 0.0
    lost_all = not whole.any() and data.any()
    return whole if off <= max(_OFF, lost) and not lost_all else None
