"""What a MONAI bundle's configuration says of its network and its input, without running it.

MONAI's configurations refer to other entries ("@key::sub"), name classes
("_target_") and may hold Python expressions ("$..."). References are followed;
expressions are only understood if they are plain values or references.

References
----------
.. [1] MONAI bundle configuration syntax,
   https://docs.monai.io/en/latest/config_syntax.html
"""

from __future__ import annotations

import ast
import keyword
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Config", "NotPlain", "Step"]

_NETS = "monai.networks.nets"
_ID = r"@(\w+(?:(?:::|#)\w+)*)"
_REFERENCE = re.compile(rf"(?:\$\s*)?{_ID}\s*")
_MOVED = re.compile(rf"\$\s*{_ID}(?:\.(?:to|cuda|cpu|eval|float)\([^()]*\))*\s*")
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_NOT_ARGUMENTS = ("_target_", "_disabled_", "_requires_", "_desc_", "_mode_")
#: where bundles keep the steps that every scan goes through
_PREPROCESSING = ("preprocessing", "validate::preprocessing", "val_preprocessing")
#: how deep values and references may be nested, and how many are looked at in one file
_DEPTH, _VALUES = 50, 100_000


class NotPlain(Exception):
    """A value can only be known by running Python code; the text is that code, shortened."""

    def __init__(self, value: Any) -> None:
        text = " ".join(str(value).split())
        super().__init__(text if len(text) <= 60 else text[:57] + "...")


class Config:
    """The content of one configuration file.

    Parameters
    ----------
    content : dict
        As parsed from JSON or YAML.
    """

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content
        self._left = _VALUES

    def find(self, path: str, depth: int = 0) -> Any:
        """The entry called such as "validate::preprocessing".

        Raises
        ------
        NotPlain
            If there is none or it lies in something that Python code makes.
        """
        value: Any = self._content
        for part in re.split("::|#", path):
            value = self.follow(value, depth)
            if isinstance(value, dict) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                raise NotPlain(f"@{path}")
        return value

    def follow(self, value: Any, depth: int = 0) -> Any:
        """A value, or what it refers to; not what is inside it.

        Raises
        ------
        NotPlain
            If that is Python code, missing or refers to itself.
        """
        self._left -= 1
        if self._left < 0:
            raise NotPlain("a value without an end")
        if not isinstance(value, str) or not value.startswith(("@", "$", "%")):
            return value
        reference = _REFERENCE.fullmatch(value)
        if reference is not None and depth < _DEPTH:
            return self.follow(self.find(reference[1], depth + 1), depth + 1)
        if reference is not None or not value.startswith("$"):
            raise NotPlain(value)
        try:
            return ast.literal_eval(value[1:].strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as exc:
            raise NotPlain(value) from exc

    def plain(self, value: Any, depth: int = 0) -> Any:
        """A value with all references in it followed: numbers, strings, None, lists and dicts.

        Raises
        ------
        NotPlain
            If it holds anything else.
        """
        value = self.follow(value)
        if depth > _DEPTH:
            raise NotPlain("a value without an end")
        if isinstance(value, dict):
            if "_target_" in value:
                raise NotPlain(value["_target_"])
            if not all(isinstance(k, str | int) for k in value):
                raise NotPlain(value)
            return {k: self.plain(v, depth + 1) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.plain(v, depth + 1) for v in value)
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        raise NotPlain(value)

    def architecture(self) -> str | None:
        """The network, as "monai.networks.nets:DenseNet121(spatial_dims=3, ...)"; None if not here.

        Raises
        ------
        NotPlain
            If it is defined by Python code.
        """
        key = next((k for k in ("network_def", "network") if k in self._content), None)
        if key is None:
            return None
        definition = self._content[key]
        for _ in range(_DEPTH):
            moved = _MOVED.fullmatch(definition) if isinstance(definition, str) else None
            if moved is None:
                break
            definition = self.find(moved[1])
        definition = self.follow(definition)
        if not isinstance(definition, dict) or "_target_" not in definition:
            raise NotPlain(definition)
        target = self.follow(definition["_target_"])
        if not isinstance(target, str) or not _TARGET.fullmatch(target):
            raise NotPlain(target)
        arguments = []
        for name, value in definition.items():
            if name in _NOT_ARGUMENTS:
                continue
            if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
                raise NotPlain(name)
            arguments.append(f"{name}={self.plain(value)!r}")
        return f"{_spelled(target)}({', '.join(arguments)})"

    def steps(self, *places: str) -> list[Step] | None:
        """The transforms that a "Compose" applies; None if there is none at these places.

        Parameters
        ----------
        *places : str
            Where to look first; by default where bundles keep their preprocessing.
        """
        others = [k for k in self._content if isinstance(k, str) and k.startswith("transforms")]
        for place in places or (*_PREPROCESSING, *others):
            try:
                found = self.find(place)
            except NotPlain:
                continue
            return list(self._steps(found, 0))
        return None

    def _steps(self, value: Any, depth: int) -> Iterator[Step]:
        try:
            value = self.follow(value)
            if depth > _DEPTH:
                raise NotPlain("a list without an end")
        except NotPlain as exc:
            yield Step(self, f"Python code ({exc})", {})
            return
        if isinstance(value, list | tuple):
            for part in value:
                yield from self._steps(part, depth + 1)
        elif isinstance(value, dict) and str(value.get("_disabled_", False)).lower() != "true":
            name = str(value.get("_target_", "")).rpartition(".")[2]
            if name == "Compose" and value.get("lazy") not in (None, False):
                yield Step(self, "Compose(lazy=True)", {})  # resamples once for several steps
            if name == "Compose":
                yield from self._steps(value.get("transforms", []), depth + 1)
            else:
                yield Step(self, name or "a step without a name", value)


def _spelled(target: str) -> str:
    """A class name such as "DenseNet121" or "monai.networks.nets.densenet.DenseNet121" as "module:Class"."""
    module, _, name = target.rpartition(".")
    if not module or module.startswith(f"{_NETS}."):
        module = _NETS
    return f"{module}:{name}"


@dataclass(frozen=True)
class Step:
    """One transform: the name of its class and its arguments."""

    config: Config
    written: str
    arguments: dict[str, Any]

    @property
    def name(self) -> str:
        """The array version's name, for "Spacingd", "SpacingD" and "SpacingDict" too."""
        if "keys" not in self.arguments:
            return self.written
        return re.sub("(Dict|d|D)$", "", self.written)

    def get(self, name: str, default: Any = None) -> Any:
        """An argument's plain value.

        Raises
        ------
        NotPlain
            If it is Python code.
        """
        return self.config.plain(self.arguments.get(name, default))

    def is_given(self, **values: Any) -> bool:
        """Whether arguments that MONAI calls so, or their defaults given here, have these values."""
        return all(self.get(name, value) == value for name, value in values.items())
