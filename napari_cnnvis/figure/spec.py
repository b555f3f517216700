"""What a figure shows and how, as plain values that a JSON file can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from napari_cnnvis.errors import CnnVisError

__all__ = ["AXES", "BACKGROUNDS", "LAYOUTS", "SIDES", "FigureSpec"]

#: three orthogonal slices, many parallel ones, or six views from outside
LAYOUTS = ("slices", "lightbox", "views")
#: of the slices of a lightbox
AXES = ("axial", "coronal", "sagittal")
BACKGROUNDS = ("black", "white", "transparent")
#: radiological: the patient's left is on the right of a slice; neurological: on its left
SIDES = ("radiological", "neurological")
_WIDEST = 20_000


@dataclass(frozen=True)
class FigureSpec:
    """What a figure shows and how.

    Attributes
    ----------
    layout : str
        One of `LAYOUTS`.
    positions : tuple of (x, y, z), or None
        "slices": the points in RAS millimetres that sagittal, coronal and axial slices go
        through, a row each; None takes the map's largest value.
    axis : str
        "lightbox": one of `AXES`.
    count : int
        "lightbox": number of slices.
    span : (float, float) or None
        "lightbox": millimetres of the first and the last slice; None takes the head's ends.
    width_mm, dpi : float
        Size in print; its height follows from the layout.
    background : str
        One of `BACKGROUNDS`. Text is white on black, else black.
    title : str or None
        None takes method, class and layer from the map's provenance; "" is no title.
    limits : (float, float) or None
        The values at the ends of the colours: (0, m), or (-m, m) for a signed map; None
        takes them from the map.
    threshold : float
        Values whose size is smaller are not drawn.
    scan_limits : (float, float) or None
        The scan's values that are black and white; None takes them from the head.
    colour_bar, scale_bar, letters : bool
        What is drawn beside the pictures; `letters` are L, R, A and P.
    unit : str or None
        Below the colour bar; None takes it from the map's provenance.
    side : str
        One of `SIDES`, for slices. Views are from outside and never mirrored.
    smooth : bool
        Interpolate between voxels; otherwise each is a rectangle of one colour.
    crop : bool
        Leave the air around the head out, where the map is empty, too.
    head_only : bool
        Draw the map inside the head alone.

    Raises
    ------
    CnnVisError
        If a value is not possible; the text says what is.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> spec = cv.FigureSpec(layout="lightbox", axis="axial", count=6, width_mm=180, dpi=300)
    >>> cv.FigureSpec(layout="circle")
    Traceback (most recent call last):
        ...
    napari_cnnvis.errors.CnnVisError: 'circle' is not a layout of a figure; use one of slices, lightbox, views.
    """

    layout: str = "slices"
    positions: tuple[tuple[float, float, float], ...] | None = None
    axis: str = "axial"
    count: int = 20
    span: tuple[float, float] | None = None
    width_mm: float = 180.0
    dpi: float = 300.0
    background: str = "black"
    title: str | None = None
    limits: tuple[float, float] | None = None
    threshold: float = 0.0
    scan_limits: tuple[float, float] | None = None
    colour_bar: bool = True
    scale_bar: bool = True
    letters: bool = True
    unit: str | None = None
    side: str = "radiological"
    smooth: bool = True
    crop: bool = True
    head_only: bool = False

    def __post_init__(self) -> None:
        for name, choices in (
            ("layout", LAYOUTS), ("axis", AXES), ("background", BACKGROUNDS), ("side", SIDES),
        ):  # fmt: skip
            if getattr(self, name) not in choices:
                raise CnnVisError(
                    f"'{getattr(self, name)}' is not a {name} of a figure; use one of "
                    f"{', '.join(choices)}."
                )
        for name in ("limits", "scan_limits", "span"):
            object.__setattr__(self, name, _numbers(getattr(self, name), 2, name))
        if self.positions is not None:
            points = tuple(_numbers(point, 3, "positions") for point in _sequence(self.positions))
            object.__setattr__(self, "positions", points or None)
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name in ("width_mm", "dpi", "threshold"):
            value = _number(getattr(self, name), name)
            object.__setattr__(self, name, value)
            if value < 0 or (value == 0 and name != "threshold"):
                raise CnnVisError(f"{value:g} is not possible for {name}; give a number above 0.")
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 1:
            raise CnnVisError(f"{self.count} slices are not possible; give 1, 2, 3, ...")
        for name in ("limits", "scan_limits"):
            pair = getattr(self, name)
            if pair is not None and not pair[0] < pair[1]:
                raise CnnVisError(
                    f"The {name.replace('_', ' ')} {pair[0]:g} and {pair[1]:g} are not in rising "
                    "order."
                )
        if self.limits is not None and self.limits[0] < 0 and self.limits[0] != -self.limits[1]:
            raise CnnVisError(
                f"Limits from {self.limits[0]:g} to {self.limits[1]:g} would put the colour of 0 "
                "elsewhere; below 0 use symmetric limits such as -0.2 and 0.2."
            )
        if self.width_mm < 30:
            raise CnnVisError(
                f"A figure of {self.width_mm:g} mm is too narrow; make it 30 mm or more."
            )
        if not 50 <= self.pixels <= _WIDEST:
            raise CnnVisError(
                f"{self.width_mm:g} mm at {self.dpi:g} dpi are {self.pixels} pixels; "
                f"50 to {_WIDEST} are possible."
            )

    @property
    def pixels(self) -> int:
        """Width of the picture in pixels."""
        return round(self.width_mm / 25.4 * self.dpi)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FigureSpec:
        """The spec that `to_dict` wrote.

        Raises
        ------
        CnnVisError
            If a name or a value is not one of a figure.
        """
        if not isinstance(values, Mapping):
            raise CnnVisError("This is not the description of a figure.")
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise CnnVisError(
                f"'{unknown[0]}' is not an option of a figure; it may come from a newer version."
            )
        return cls(**values)


def _number(value: Any, name: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise CnnVisError(f"{value!r} is not a number, which {name} of a figure has to be.")
    return number


def _sequence(value: Any) -> tuple[Any, ...]:
    try:
        return tuple(value)
    except TypeError:
        return (value,)


def _numbers(value: Any, count: int, name: str) -> tuple[float, ...] | None:
    if value is None:
        return None
    numbers = tuple(_number(item, name) for item in _sequence(value))
    if len(numbers) != count:
        raise CnnVisError(f"{name} of a figure needs {count} numbers, not {len(numbers)}.")
    return numbers
