"""A step: a frozen description with checked arguments, and what it does to a scan."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from napari_cnnvis.errors import VolumeError, shortened
from napari_cnnvis.scan.moves import Move

__all__ = [
    "InputStep", "Sizes", "argument", "choice", "number", "numbers", "of_each_axis",
    "optional", "size", "whole", "yes_or_no",
]  # fmt: skip

#: the fewest and the most voxels along each axis
Sizes = tuple[tuple[float, float], ...]


def argument(check: Callable[[Any], Any], default: Any = dataclasses.MISSING) -> Any:
    """A field of a step; `check` returns the value or raises ValueError."""
    return field(default=default, metadata={"check": check})


@dataclass(frozen=True, repr=False)
class InputStep:
    """One step; its text is how it is written in Python.

    Raises
    ------
    VolumeError
        If an argument cannot be used.
    """

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            try:
                good = one.metadata["check"](value)
            except (TypeError, ValueError, OverflowError):
                raise VolumeError(
                    f"The step {type(self).__name__} cannot have "
                    f"{one.name}={shortened(repr(value), 60)}; see MONAI's documentation of it."
                ) from None
            object.__setattr__(self, one.name, good)

    def __repr__(self) -> str:
        needed = [one for one in fields(self) if one.default is dataclasses.MISSING]
        given = []
        for one in fields(self):
            value = getattr(self, one.name)
            if one.default is not dataclasses.MISSING and value == one.default:
                continue
            given.append(repr(value) if needed == [one] else f"{one.name}={value!r}")
        return f"{type(self).__name__}({', '.join(given)})"

    def apply(self, data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, Move | None]:
        """A scan after this step.

        Parameters
        ----------
        data : array, float32, shape (channels, i, j, k)
        affine : array, shape (4, 4)
            Voxels to RAS millimetres.

        Returns
        -------
        data : array, float32, shape (channels, i, j, k)
        move : Move or None
            From the grid before to the one after, if it changed.
        """
        raise NotImplementedError

    def sizes(self, before: Sizes) -> Sizes:
        """The fewest and most voxels along each axis after this step."""
        return before


def number(value: Any) -> float:
    """A finite number; whole ones become `int`, so that 2 and 2.0 read the same."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else float(value)


def whole(value: Any) -> int:
    """A whole number of voxels."""
    if isinstance(value, bool) or not isinstance(value, int) or not abs(value) < 2**15:
        raise ValueError
    return value


def yes_or_no(value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise ValueError
    return value


def optional(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """None, or what `check` takes."""
    return lambda value: None if value is None else check(value)


def choice(*names: str) -> Callable[[Any], str]:
    """One of these words."""

    def check(value: Any) -> str:
        if value not in names:
            raise ValueError
        return value

    return check


def numbers(value: Any) -> float | tuple[float, ...]:
    """One number, or one for each channel."""
    return tuple(number(v) for v in value) if isinstance(value, list | tuple) else number(value)


def of_each_axis(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """One value for all three axes, or three."""

    def checked(value: Any) -> Any:
        given = tuple(value) if isinstance(value, list | tuple) else (value,) * 3
        if len(given) != 3:
            raise ValueError
        return tuple(check(v) for v in given)

    return checked


#: voxels along each axis; as in MONAI, one of 0 or below stands for what the scan has
size = of_each_axis(whole)
