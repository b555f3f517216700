"""The words of a figure: title, unit, numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["millimetre_text", "number_text", "ticks_of", "title_of", "unit_of"]

_SCORES = {"log_prob": "log-probability"}


def title_of(provenance: Mapping[str, Any] | None, name: str) -> str:
    """Method, class and layer or baseline; the map's name where nothing is known of it."""
    if not provenance or "method" not in provenance:
        return name
    parts = [
        provenance["method"],
        provenance.get("class_name"),
        provenance.get("layer") or provenance.get("shown"),
    ]
    return " · ".join(str(part) for part in parts if part) + (
        " (partial)" if provenance.get("partial") else ""
    )


def unit_of(provenance: Mapping[str, Any] | None) -> str:
    """What a map's values are, as far as its provenance says."""
    if not provenance or "method" not in provenance:
        return ""
    score = str(provenance.get("score") or "logit")
    score = _SCORES.get(score, score)
    quantity = provenance.get("quantity")
    if quantity is None:
        return score
    units = {"drop": f"drop of the {score}", "absolute": f"size of the drop of the {score}"}
    unit = units.get(quantity, f"{score} without the region")
    if provenance.get("shown") == "disagreement":
        return f"disagreement of baselines ({unit})"
    return unit


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
