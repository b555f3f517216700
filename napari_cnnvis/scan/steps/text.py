"""Steps as text and back: "Orientation('RAS'), ScaleIntensity()"."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from napari_cnnvis.errors import VolumeError, shortened
from napari_cnnvis.scan.steps import grids, sampling, values
from napari_cnnvis.scan.steps.step import InputStep, Sizes

__all__ = ["INPUT_STEPS", "as_line", "fixed_shape", "last_orientation", "read_steps"]

#: by name
INPUT_STEPS: dict[str, type[InputStep]] = {
    name: getattr(module, name) for module in (grids, sampling, values) for name in module.__all__
}
_LONGEST_TEXT = 10_000
_EXAMPLE = "Orientation('RAS'), Spacing((1, 1, 1)), ScaleIntensity()"


def read_steps(given: str | Sequence[str | InputStep]) -> tuple[InputStep, ...]:
    """Steps from text, or from a list of steps and texts.

    Raises
    ------
    VolumeError
        If that is not a list of steps.

    Examples
    --------
    >>> read_steps("Orientation('RAS'), ScaleIntensity()")
    (Orientation('RAS'), ScaleIntensity())
    """
    if isinstance(given, str):
        return _parsed(given)
    if not isinstance(given, Sequence):
        raise _not_steps(given)
    steps: list[InputStep] = []
    for one in given:
        if not isinstance(one, str | InputStep):
            raise _not_steps(one)
        steps += _parsed(one) if isinstance(one, str) else [one]
    return tuple(steps)


def as_line(steps: Sequence[InputStep]) -> str:
    """Steps in one line, as `read_steps` reads them."""
    return ", ".join(map(str, steps))


def fixed_shape(steps: Sequence[InputStep]) -> tuple[int, int, int] | None:
    """The voxels that every scan has after these steps; None if that depends on the scan."""
    sizes: Sizes = ((1, float("inf")),) * 3
    for step in steps:
        sizes = step.sizes(sizes)
    if not steps or any(low != high for low, high in sizes):
        return None
    i, j, k = (int(low) for low, _ in sizes)
    return i, j, k


def last_orientation(steps: Sequence[InputStep]) -> str | None:
    """Where the axes point to after these steps, None if none of them says it."""
    turns = [step.axcodes for step in steps if isinstance(step, grids.Orientation)]
    return turns[-1] if turns else None


def _parsed(text: str) -> tuple[InputStep, ...]:
    try:
        if len(text) > _LONGEST_TEXT:
            raise ValueError
        parsed = ast.parse(f"[{text.strip()}]", mode="eval").body
        if not isinstance(parsed, ast.List):
            raise ValueError
        calls = [_call(node) for node in parsed.elts]
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise _not_steps(text) from None
    return tuple(_step(*call) for call in calls)


def _call(node: ast.expr) -> tuple[str, list[Any], dict[str, Any]]:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ValueError
    named = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
    return node.func.id, [ast.literal_eval(value) for value in node.args], named


def _step(name: str, values: list[Any], named: dict[str, Any]) -> InputStep:
    kind = INPUT_STEPS.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, INPUT_STEPS, 3, 0.4) or sorted(INPUT_STEPS)[:5]
        raise VolumeError(
            f"There is no step '{shortened(name, 40)}'; nearest are {', '.join(near)}."
        )
    try:
        return kind(*values, **named)
    except TypeError:
        known = ", ".join(one.name for one in fields(kind))
        raise VolumeError(f"The step {name} has these arguments: {known}.") from None


def _not_steps(given: Any) -> VolumeError:
    return VolumeError(
        f"'{shortened(given, 60)}' is not a list of steps; write them with brackets and commas "
        f"between them, in the order they are done, such as {_EXAMPLE}."
    )
