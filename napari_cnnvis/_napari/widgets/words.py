"""Numbers and sizes as the panels write them."""

from __future__ import annotations

__all__ = ["number_text", "volume_text"]


def volume_text(millimetres: float) -> str:
    """ "512 mm³", "12.3 cm³"."""
    if millimetres < 999.5:
        return f"{number_text(millimetres)} mm³"
    return f"{number_text(millimetres / 1000)} cm³"


def number_text(value: float) -> str:
    """ "1,234", "12.3"."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"
