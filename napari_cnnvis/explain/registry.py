"""The methods that there are: those in the folder ``methods``, then those of other packages."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import warnings
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType

from napari_cnnvis.errors import MethodError, shortened
from napari_cnnvis.explain.method import Method

__all__ = ["GROUP", "method_of", "methods", "titled"]

#: the entry-point group by which other packages add methods
GROUP = "napari_cnnvis.methods"
_FOLDER = "napari_cnnvis.explain.methods"
#: entries of a record that a parameter cannot be stored under
_RESERVED = frozenset(
    (
        *("method", "class", "class_name", "model", "scan", "versions", "time", "partial"),
        *("notes", "target", "hierarchy", "baseline_sources", "engine"),
    )
)


def methods() -> MappingProxyType[str, type[Method]]:
    """All methods by key: those of this package in a fixed order, then those of others.

    A package adds one with an entry point of the group ``napari_cnnvis.methods`` that leads
    to a `Method`. One that cannot be loaded is left out with a warning.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> list(cv.methods())[:3]
    ['cam', 'grad-cam', 'grad-cam++']
    >>> cv.methods()["sensitivity"].title
    'UCM sensitivity'
    """
    return MappingProxyType(_methods())


def method_of(key: str) -> type[Method]:
    """The method of this key.

    Raises
    ------
    MethodError
        If there is none.
    """
    found = _methods().get(key) if isinstance(key, str) else None
    if found is None:
        raise MethodError(
            f"'{shortened(key, 60)}' is not a method; use one of {', '.join(_methods())}."
        )
    return found


def titled(title: object) -> type[Method] | None:
    """The method that records call by this title, or None."""
    return next((m for m in _methods().values() if m.title == title), None)


@cache
def _methods() -> dict[str, type[Method]]:
    found: dict[str, type[Method]] = {}
    for method in sorted(_own(), key=lambda method: method.place):
        found[method.key] = method
    for entry in entry_points(group=GROUP):
        try:
            method = entry.load()
            _check(method, found)
        except Exception as exc:  # of other people's code
            warnings.warn(
                f"The method '{entry.name}' of '{entry.value}' cannot be used: {exc}", stacklevel=2
            )
        else:
            found[method.key] = method
    return found


def _own() -> Iterator[type[Method]]:
    """The methods of the package's own folder, each in its file."""
    folder = importlib.import_module(_FOLDER)
    for file in pkgutil.iter_modules(folder.__path__, f"{_FOLDER}."):
        module = importlib.import_module(file.name)
        for value in vars(module).values():
            own = isinstance(value, type) and value.__module__ == module.__name__
            if own and issubclass(value, Method) and value.key:
                yield value


def _check(method: object, others: dict[str, type[Method]]) -> None:
    """Raise MethodError if a class cannot be listed beside the others."""
    if not isinstance(method, type) or not issubclass(method, Method):
        raise MethodError("it is not a class that inherits from Method.")
    name = method.__name__
    if inspect.isabstract(method) or not is_dataclass(method):
        raise MethodError(f"{name} has to be a frozen dataclass with a 'run'.")
    if not re.fullmatch(r"[a-z][a-z0-9+-]*", method.key) or not method.title:
        raise MethodError(f"{name} needs a key of small letters, such as 'grad-cam', and a title.")
    if method.key in others or any(other.title == method.title for other in others.values()):
        raise MethodError(f"there is a method '{method.key}' or '{method.title}' already.")
    plain = [field.name for field in fields(method) if "parameter" not in field.metadata]
    if plain:
        raise MethodError(f"its field '{plain[0]}' is not made by 'parameter'.")
    taken = [p.stored for p in method.parameters().values() if p.stored in _RESERVED]
    if taken:
        raise MethodError(f"a parameter cannot be called '{taken[0]}', as a part of a record is.")
