"""What a network takes besides the scan, as a user writes it; no torch is needed here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_cnnvis.errors import MethodError

__all__ = ["numbers_of", "parsed_extra", "written_extra"]


def parsed_extra(text: str) -> dict[str, Any]:
    """Further arguments as a user writes them, such as "age=71, sex=1, volumes=3.5 2.25".

    Raises
    ------
    MethodError
        If a part is not a name and a number, or several numbers with spaces between.

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
        if not equals or not name.isidentifier() or not numbers:
            raise MethodError(
                f"'{part}' is not an argument and its number; write them as age=71, sex=1."
            )
        found[name] = numbers[0] if len(numbers) == 1 else numbers
    return found


def written_extra(extra: Mapping[str, Any]) -> str:
    """Further arguments as `parsed_extra` reads them.

    Examples
    --------
    >>> written_extra({"age": 71.0, "volumes": [3.5, 2.25]})
    'age=71, volumes=3.5 2.25'
    """
    return ", ".join(
        f"{name}={' '.join(f'{number:.15g}' for number in numbers_of(name, value))}"
        for name, value in extra.items()
    )


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
            f"The argument '{name}' of the network has to be a number or a list of numbers, not "
            f"{value!r}."
        ) from exc
