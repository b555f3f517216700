"""The numbers of a figure in words."""

from __future__ import annotations

import math

__all__ = ["millimetre_text", "number_text", "ticks_of"]


def ticks_of(low: float, high: float) -> tuple[list[float], int]:
    """Values that a colour bar labels, its ends among them, and the power of ten before them."""
    size = max(abs(low), abs(high))
    power = math.floor(math.log10(size) + 1e-9)
    if -3 < power < 4:
        power = 0
    start = 0.0 if low <= 0 <= high else low
    parts = 3 if round(high / 10.0 ** math.floor(math.log10(size) + 1e-9), 3) in (3, 6) else 2
    if start != 0.0:
        return [low, (low + high) / 2, high], power
    above = [high * n / parts for n in range(parts + 1)]
    return ([-value for value in above[:0:-1]] if low < 0 else []) + above, power


def number_text(value: float, power: int = 0) -> str:
    """A number with a proper minus sign, divided by a power of ten."""
    return f"{value / 10.0**power:.4g}".replace("-", "−")


def millimetre_text(letter: str, value: float) -> str:
    """ "x = −24 mm"."""
    rounded = round(float(value), 1) + 0.0
    text = f"{rounded:.0f}" if rounded == round(rounded) else f"{rounded:.1f}"
    return f"{letter} = {text.replace('-', '−')} mm"
