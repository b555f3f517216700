"""The colours of maps, shared by the viewer's overlay and by figures."""

from __future__ import annotations

import numpy as np

__all__ = ["STEPS", "colour_table", "colours_of", "contrast_limits"]

#: where the rows of a colour table lie between its ends, 0 to 1
STEPS = np.linspace(0, 1, 64)
#: ends of a colour bar, up to a power of ten, near which it has labelled ticks
_ROUND = (1, 1.5, 2, 3, 4, 5, 6, 10)
_WARM = [(0.45, 0.0, 0.05), (0.85, 0.15, 0.05), (1.0, 0.55, 0.0), (1.0, 0.85, 0.25), (1, 1, 0.8)]
_COLD_TO_WARM = [
    (0.65, 0.95, 1.0),
    (0.0, 0.55, 1.0),
    (0.1, 0.1, 0.75),
    (0.5, 0.0, 0.25),
    (1.0, 0.35, 0.0),
    (1.0, 0.9, 0.35),
]


def colour_table(signed: bool) -> np.ndarray:
    """RGBA rows, shape (64, 4), from the lower to the upper limit.

    Opacity rises from zero: at the low end, or from the middle for signed maps.
    """
    if signed:
        away = np.abs(2 * STEPS - 1)
        return _ramp(_COLD_TO_WARM, 0.9 * np.clip(1.6 * away - 0.1, 0, 1))
    return _ramp(_WARM, 0.9 * np.clip(1.6 * STEPS, 0, 1))


def _ramp(colours: list[tuple[float, float, float]], alpha: np.ndarray) -> np.ndarray:
    """RGBA table (64, 4) through `colours`, with the given opacity."""
    stops = np.linspace(0, 1, len(colours))
    rgb = np.stack([np.interp(STEPS, stops, c) for c in np.array(colours).T], axis=1)
    return np.column_stack([rgb, alpha])


def contrast_limits(data: np.ndarray) -> tuple[float, float]:
    """(0, m), or (-m, m) for a signed map.

    m is the 99.9th percentile of the absolute values, rounded up to a number that
    the colour bar can label.
    """
    size = np.abs(data[data != 0])
    peak = float(np.percentile(size, 99.9)) if size.size else 1.0
    magnitude = 10.0 ** np.floor(np.log10(peak))
    peak = magnitude * next(n for n in _ROUND if n >= peak / magnitude * (1 - 1e-6))
    return (-peak if (data < 0).any() else 0.0, peak)


def colours_of(
    values: np.ndarray, limits: tuple[float, float], threshold: float = 0.0
) -> np.ndarray:
    """RGBA of map values, 0 to 1, as the viewer's overlay shows them.

    Parameters
    ----------
    values : array, shape (...)
    limits : (float, float)
        A lower limit below 0 stands for a signed map. Values beyond get the end's colour;
        below the lower limit of a positive map nothing is drawn.
    threshold : float
        Values whose size is smaller are transparent.

    Returns
    -------
    array, float64, shape (..., 4)
    """
    low, high = limits
    signed = low < 0
    place = (np.asarray(values, dtype=np.float64) - low) / (high - low)
    table = colour_table(signed)
    colours = np.stack([np.interp(place, STEPS, channel) for channel in table.T], axis=-1)
    hidden = np.abs(values) < threshold
    if not signed:
        hidden |= place < 0
    colours[..., 3] = np.where(hidden, 0.0, colours[..., 3])
    return colours
