"""What a parameter of a method is: its words, its range, and which values it may have."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_cnnvis.errors import MethodError
from napari_cnnvis.scan.volume import Volume

__all__ = [
    "BASELINES",
    "Baseline",
    "Parameter",
    "baseline_names",
    "check_baselines",
    "check_choice",
    "parameter",
    "parameters_of",
]

#: what an occluded voxel can become
Baseline = float | str | Volume
#: baselines by name, and what an occluded voxel becomes; a number and a volume do, too
BASELINES = {
    "blur": "the scan without detail (12 mm)",
    "border": "the mean of the voxels around the region",
    "noise": "noise with the head's mean and deviation",
}
_KINDS = {bool: "flag", int: "whole", float: "number", str: "text"}
_UNITS = {"mm": "millimetres", "s": "seconds"}
_TEXT = 4_000  # letters


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method; forms, options, records and scripts follow from it.

    Attributes
    ----------
    name : str
        As in Python.
    kind : {"flag", "whole", "number", "choice", "text", "wholes", "numbers", "layer",
        "class", "baselines"}
        What its values are: "wholes" and "numbers" are several; "layer" is a target layer's
        name, "class" a class's; "baselines" are what occluded voxels become.
    default : object
    label, tip : str
        Beside and over the field in a form; the tip is the option's help, too.
    noun : str
        What a value is called in an error's text, such as "a score" or "box side".
    unit : str
        "mm", "voxels", "s".
    low, high : float, optional
        Smallest and largest value.
    above : float, optional
        Values are larger than this.
    choices : mapping, optional
        Values and how they are called.
    optional : bool
        None is a value as well.
    none : str
        What None is called.
    redraws : bool
        True if a kept run can be drawn with another value at once; else it takes a new run.
    in_form : bool
        Whether the panel's form has a field for it.
    option : str
        On the command line, without the dashes; the name if empty.
    flag_value : object
        If given, the option takes no value and stands for this one.
    stored : str
        Its entry in a map's record; the name if empty.
    """

    name: str
    kind: str
    default: Any
    label: str
    tip: str
    noun: str
    unit: str
    low: float | None
    high: float | None
    above: float | None
    choices: Mapping[str, str] | None
    optional: bool
    none: str
    redraws: bool
    in_form: bool
    option: str
    flag_value: Any
    stored: str

    def checked(self, value: Any) -> Any:
        """The value as a method holds it: plain, several as a tuple.

        Raises
        ------
        MethodError
            If the parameter cannot have it.
        """
        if self.kind == "baselines":
            return check_baselines(value)
        if value is None and self.optional:
            return None
        if self.kind == "choice":
            return check_choice(value, self.choices or (), self.noun)
        if self.kind in ("wholes", "numbers"):
            return self._several(value)
        if self.kind == "flag":
            if not isinstance(value, bool | np.bool_):
                raise MethodError(f"{value!r} is neither True nor False, as {self.name} needs.")
            return bool(value)
        if self.kind in ("text", "layer", "class"):
            if not isinstance(value, str) or len(value) > _TEXT:
                raise MethodError(f"{value!r} is not a name, as {self.name} needs.")
            return value
        return self._number(value, self.kind == "whole")

    def _several(self, value: Any) -> tuple[Any, ...]:
        if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
            raise MethodError(f"{value!r} is not a list of numbers, as {self.name} needs.")
        return tuple(self._number(one, self.kind == "wholes") for one in value)

    def _number(self, value: Any, whole: bool) -> float | int:
        kinds = int | np.integer if whole else int | float | np.number
        number = isinstance(value, kinds) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not self._in_range(value):
            what = "whole number" if whole else "number"
            unit = f" of {_UNITS.get(self.unit, self.unit)}" if self.unit else ""
            raise MethodError(
                f"A {self.noun} of {value!r} is not possible; give a {what}{unit}{self._range()}."
            )
        return int(value) if whole else float(value)

    def _in_range(self, value: float) -> bool:
        enough = self.low is None or value >= self.low
        enough = enough and (self.above is None or value > self.above)
        return enough and (self.high is None or value <= self.high)

    def _range(self) -> str:
        if self.above is not None:
            return f" above {self.above:g}"
        if self.low is None:
            return ""
        high = "" if self.high is None else f" to {self.high:g}"
        return f" from {self.low:g}{high}{' up' if self.high is None else ''}"

    # --- as plain values, for JSON ---------------------------------------------------------

    def plain(self, value: Any) -> Any:
        """The value as JSON holds it; of a baseline that is a volume its name."""
        if self.kind == "baselines":
            return list(baseline_names(value))
        return list(value) if isinstance(value, tuple) else value

    def read(self, plain: Any) -> Any:
        """The value that `plain` wrote.

        Raises
        ------
        MethodError
            If the parameter cannot have it.
        """
        if self.kind == "baselines":
            if not isinstance(plain, list | tuple):
                raise MethodError(f"{plain!r} is not a list of baselines.")
            return check_baselines([_plain_baseline(one) for one in plain])
        return self.checked(plain)


def parameter(
    default: Any,
    label: str,
    tip: str,
    *,
    kind: str = "",
    noun: str = "",
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: Mapping[str, str] | None = None,
    none: str = "none",
    redraws: bool = False,
    in_form: bool = True,
    option: str = "",
    flag_value: Any = None,
    stored: str = "",
) -> Any:
    """A field of a `Method`: its default and what `Parameter` says of it.

    ``kind`` follows from the annotation where it is not given, as does whether None is a
    value.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Settings:
    ...     width: float = parameter(2.0, "Width", "Of the blur.", unit="mm", low=0)
    >>> parameters_of(Settings)["width"].checked(3)
    3.0
    """
    words = {
        **{"label": label, "tip": tip, "kind": kind, "noun": noun, "unit": unit},
        **{
            "low": low,
            "high": high,
            "above": above,
            "choices": choices,
            "none": none,
            "redraws": redraws,
        },
        **{"in_form": in_form, "option": option, "flag_value": flag_value, "stored": stored},
    }
    return dataclasses.field(default=default, metadata={"parameter": words})


def parameters_of(method: type) -> dict[str, Parameter]:
    """The parameters of a dataclass whose fields `parameter` made, by name and in order."""
    hints = typing.get_type_hints(method)
    found = {}
    for field in dataclasses.fields(method):
        words = dict(field.metadata["parameter"])
        kind, optional = _kind_of(hints[field.name])
        words["kind"] = words["kind"] or ("choice" if words["choices"] else kind)
        words["noun"] = words["noun"] or words["label"].lower()
        words["option"] = words["option"] or field.name.replace("_", "-")
        words["stored"] = words["stored"] or field.name
        found[field.name] = Parameter(field.name, default=field.default, optional=optional, **words)
    return found


def _kind_of(hint: Any) -> tuple[str, bool]:
    """What values of a type are, and whether None is one."""
    optional = False
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        optional = len(parts) < len(typing.get_args(hint))
        hint = parts[0] if len(parts) == 1 else str
    if typing.get_origin(hint) is tuple:
        inner = _KINDS.get(typing.get_args(hint)[0], "text")
        return {"whole": "wholes", "number": "numbers"}.get(inner, inner), optional
    return _KINDS.get(hint, "text"), optional


def check_choice(value: Any, choices: Collection[str], what: str) -> str:
    """`value` itself.

    Raises
    ------
    MethodError
        If it is not one of `choices`; the text names `what` it should be.
    """
    if not isinstance(value, str) or value not in choices:
        raise MethodError(f"'{value}' is not {what}; use one of {', '.join(choices)}.")
    return value


def check_baselines(baseline: Baseline | Sequence[Baseline]) -> tuple[Baseline, ...]:
    """One baseline or several, as a tuple; numbers as floats.

    Raises
    ------
    MethodError
        If one is neither a number, a name nor a volume, or there is none, or one twice.
    """
    given = list(baseline) if isinstance(baseline, list | tuple) else [baseline]
    checked = tuple(_check_baseline(b) for b in given)
    names = baseline_names(checked)
    if not names:
        raise MethodError("Choose at least one baseline, such as 'blur'.")
    for name in names:
        if names.count(name) > 1:
            raise MethodError(f"The baseline '{name}' is given twice; give each once.")
    return checked


def baseline_names(baselines: Sequence[Baseline]) -> tuple[str, ...]:
    """What baselines are called: "blur", "0", a volume's name."""
    return tuple(
        b if isinstance(b, str) else _number_name(b) if isinstance(b, float) else b.name
        for b in baselines
    )


def _number_name(value: float) -> str:
    """ "0", "0.25": as short as it can be read back from."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _plain_baseline(name: Any) -> float | str:
    try:
        value = float(name)
    except (TypeError, ValueError):
        return name
    return value if math.isfinite(value) else name


def _check_baseline(baseline: Any) -> Baseline:
    if isinstance(baseline, Volume) or (isinstance(baseline, str) and baseline in BASELINES):
        return baseline
    try:
        value = float(baseline)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        names = ", ".join(f"'{name}'" for name in BASELINES)
        plain = isinstance(baseline, str | int | float)
        given = f"'{baseline}'" if plain else f"A value of type {type(baseline).__name__}"
        raise MethodError(
            f"{given} is not a baseline; use {names}, a number such as 0, or a volume."
        )
    return value
