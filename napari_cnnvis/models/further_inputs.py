"""What a network takes besides the scan, as a user writes it; no torch is needed here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from napari_cnnvis.errors import MethodError, shortened
from napari_cnnvis.scan.opening import SCAN_ENDINGS

__all__ = ["extra_of_row", "is_scan_file", "numbers_of", "parsed_extra", "written_extra"]


def is_scan_file(value: Any) -> bool:
    """Whether a further argument is the file of another scan, by its name, and not numbers.

    Examples
    --------
    >>> is_scan_file("t2.nii.gz"), is_scan_file("run.nii#1"), is_scan_file("old"), is_scan_file(71)
    (True, True, False, False)
    """
    if not isinstance(value, str | os.PathLike):
        return False
    name, _, index = os.fspath(value).lower().rpartition("#")
    return (name if name and index.isdigit() else os.fspath(value).lower()).endswith(SCAN_ENDINGS)


def parsed_extra(text: str) -> dict[str, Any]:
    """Further arguments as a user writes them, such as "age=71, volumes=3.5 2.25, t2=t2.nii.gz".

    Raises
    ------
    MethodError
        If a part is not a name and a number, several numbers with spaces between, or the file of
        another scan.

    Examples
    --------
    >>> parsed_extra("age=71, volumes=3.5 2.25")
    {'age': 71.0, 'volumes': [3.5, 2.25]}
    """
    found: dict[str, Any] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, value = (p.strip() for p in part.partition("="))
        try:
            numbers = [float(number) for number in value.split()]
        except ValueError:
            numbers = []
        if equals and name.isidentifier() and is_scan_file(value):
            found[name] = value
            continue
        if not equals or not name.isidentifier() or not numbers:
            raise MethodError(
                f"'{part}' is not an argument and its number; write them as age=71, sex=1, or, for "
                "another scan, t2=t2.nii.gz."
            )
        found[name] = numbers[0] if len(numbers) == 1 else numbers
    return found


def extra_of_row(extra: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Further arguments for a scan in a table, from the columns that are called as they are.

    Raises
    ------
    MethodError
        If a number is needed and the cell has none.

    Examples
    --------
    >>> extra_of_row({"age": 71.0, "t2": "a.nii"}, {"Age": "65", "T2": "b.nii", "sex": "F"})
    {'age': 65.0, 't2': 'b.nii'}
    """
    cells = {name.casefold(): cell for name, cell in columns.items()}
    given: dict[str, Any] = {}
    for name, value in extra.items():
        if name.casefold() not in cells:
            continue
        cell = cells[name.casefold()]
        try:
            given[name] = cell if is_scan_file(value) else float(cell)
        except ValueError as exc:
            raise MethodError(
                f"The column '{name}' has '{shortened(cell, 40)}' for this scan, but the network "
                "needs a number there."
            ) from exc
    return given


def written_extra(extra: Mapping[str, Any]) -> str:
    """Further arguments as `parsed_extra` reads them.

    Examples
    --------
    >>> written_extra({"age": 71.0, "volumes": [3.5, 2.25]})
    'age=71, volumes=3.5 2.25'
    """
    return ", ".join(f"{name}={_written(name, value)}" for name, value in extra.items())


def _written(name: str, value: Any) -> str:
    if is_scan_file(value):
        return os.fspath(value)
    return " ".join(f"{number:.15g}" for number in numbers_of(name, value))


def numbers_of(name: str, value: Any) -> tuple[float, ...]:
    """The numbers of a further argument.

    Raises
    ------
    MethodError
        If they are none.
    """
    many = value if isinstance(value, list | tuple) or hasattr(value, "__len__") else [value]
    try:
        return tuple(float(one) for one in many)
    except (TypeError, ValueError) as exc:
        raise MethodError(
            f"The argument '{name}' of the network has to be a number, a list of numbers or the file of "
            f"another scan, not {value!r}."
        ) from exc
