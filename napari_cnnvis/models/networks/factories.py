"""Networks by name: built-in ones, classes of installed packages, callables in a user's file.

``VoxVGG(n_classes=3)``, ``monai.networks.nets:DenseNet121(spatial_dims=3, in_channels=1,
out_channels=2)``, ``my_nets.py:make_net(width=16)``. Arguments are plain values, never
code.

Without trust only classes of networks are made: the built-in ones, those of MONAI and
torchvision that are listed in `allowed_networks`, and ``nn.Module`` subclasses of a module
that the user names himself in this very call. What it is, is looked at before it is called.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from napari_cnnvis.errors import CheckpointError, shortened
from napari_cnnvis.models.networks.allowed import (
    check_words,
    checked_arguments,
    is_allowed,
    is_importable,
)
from napari_cnnvis.models.networks.builtin import ARCHITECTURES
from napari_cnnvis.models.networks.offline import NetworkAccess, offline
from napari_cnnvis.models.networks.weight_budget import TooLarge, WeightBudget

__all__ = ["Factory", "NeedsTrust", "parse_architecture"]

_EXAMPLE = "'monai.networks.nets:DenseNet121(spatial_dims=3, in_channels=1, out_channels=2)'"
_HOW_TO_TRUST = (
    "If you trust where it comes from, say so: trust=True in Python, --trust on the command line, "
    "the tick box in the panel."
)
_LONGEST = 4_000


class NeedsTrust(CheckpointError):
    """A network can only be made by running code that nobody has trusted yet.

    Attributes
    ----------
    suggestion : str
        The architecture, for the user to look at.
    """

    def __init__(self, text: str, suggestion: str) -> None:
        super().__init__(text)
        self.suggestion = suggestion


@dataclass(frozen=True)
class Factory:
    """A callable that makes a network, and its arguments.

    Attributes
    ----------
    place : str
        A Python module, the path of a ``.py`` file, or "" for a built-in network.
    name : str
    arguments : tuple
    keywords : dict
    """

    place: str
    name: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]

    @property
    def is_file(self) -> bool:
        """Whether it lies in a ``.py`` file of the user's."""
        return self.place.endswith(".py")

    def __str__(self) -> str:
        values = [repr(a) for a in self.arguments]
        values += [f"{key}={value!r}" for key, value in self.keywords.items()]
        return f"{self.place}{':' * bool(self.place)}{self.name}({', '.join(values)})"

    def build(
        self, trust: bool = False, by_user: bool = True, budget: WeightBudget | None = None
    ) -> nn.Module:
        """Make the network, with fresh weights; nothing is fetched from the network.

        Parameters
        ----------
        trust : bool
            Run any code: a ``.py`` file, a function, what a checkpoint names by itself.
        by_user : bool
            The user named it in this call; False if it comes from a file of any kind.
        budget : WeightBudget, optional
            How large it may get; no limit if trusted.

        Raises
        ------
        NeedsTrust
            If making it takes trust.
        CheckpointError
            If it is not there, does not make a network, or becomes too large.
        """
        if trust:
            return self._call(self._found(), self.arguments, self.keywords, None)
        make = self._network(by_user)
        if is_allowed(make):
            keywords = checked_arguments(self._short, make, self.arguments, self.keywords)
            return self._call(make, (), keywords, budget)
        check_words(
            self._short, {**{str(n): a for n, a in enumerate(self.arguments)}, **self.keywords}
        )
        return self._call(make, self.arguments, self.keywords, budget)

    @property
    def _short(self) -> str:
        return shortened(self, 120)

    def _network(self, by_user: bool) -> Any:
        """The class or listed builder, if this network may be made without trust."""
        if self.is_file:
            raise NeedsTrust(
                f"The file {self.place} would run Python code. {_HOW_TO_TRUST}", str(self)
            )
        if not (by_user or not self.place or is_importable(self.place)):
            raise self._not_by_itself()
        found = self._found()
        if is_allowed(found):
            return found
        if not by_user:
            raise self._not_by_itself()
        if not (isinstance(found, type) and issubclass(found, nn.Module)):
            raise NeedsTrust(
                f"'{self.place}:{shortened(self.name, 60)}' is no class of networks "
                "(torch.nn.Module), and other code is not run without trust. Name the class, such as "
                f"{_EXAMPLE}. {_HOW_TO_TRUST}",
                str(self),
            )
        return found

    def _not_by_itself(self) -> NeedsTrust:
        return NeedsTrust(
            f"'{self._short}', named by a file, would run Python code: it is not one of the networks "
            f"that are made without trust. {_HOW_TO_TRUST}",
            str(self),
        )

    def _found(self) -> Any:
        if not self.place:
            return ARCHITECTURES[self.name]
        module = _run_file(Path(self.place).expanduser()) if self.is_file else _import(self.place)
        found = module
        for part in self.name.split("."):
            found = getattr(found, part, None)
        if not callable(found):
            raise CheckpointError(
                f"{self.place} has nothing called '{shortened(self.name, 60)}' that can be called; it "
                f"has {_callables(module)}."
            )
        return found

    def _call(
        self,
        make: Any,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        budget: WeightBudget | None,
    ) -> nn.Module:
        try:
            with offline(), budget or contextlib.nullcontext():
                made = make(*arguments, **keywords)
        except NetworkAccess as exc:
            raise CheckpointError(
                f"'{self._short}' would fetch something from the network while it is made, which is "
                "never done: its weights come from the file. Build it without pretrained weights."
            ) from exc
        except TooLarge as exc:
            raise CheckpointError(
                f"'{self._short}' is not the network of these weights: {exc}. Check its arguments."
            ) from exc
        except (Exception, SystemExit) as exc:  # a user's code can raise anything
            raise CheckpointError(
                f"'{self._short}' cannot be built: {_reason(exc)}. Check its arguments."
            ) from exc
        if not isinstance(made, nn.Module):
            raise CheckpointError(
                f"'{self._short}' gives a {type(made).__name__}, not a torch.nn.Module; name a class "
                "or function that makes the network."
            )
        return made


def parse_architecture(text: str) -> Factory:
    """Read ``module:callable(arguments)``, ``file.py:callable(...)`` or a built-in network's name.

    Raises
    ------
    CheckpointError
        If it is none of these, or an argument is not a plain value.
    """
    text = text.strip()
    if len(text) > _LONGEST:
        raise CheckpointError(
            f"'{shortened(text, 60)}' has {len(text):,} letters; the text that names a network has at "
            f"most {_LONGEST:,}. Write a function in a .py file instead."
        )
    match = re.fullmatch(r"(?:(?P<place>.+?):)?(?P<call>[A-Za-z_][\w.]*\s*(?:\(.*\))?)", text, re.S)
    if match is None or (match["place"] is None and text.endswith(".py")):
        if text.endswith(".py"):
            raise CheckpointError(
                f"Say what makes the network in {text}: {text}:MyNet or {text}:make_net(width=16)."
                + _candidates(Path(text).expanduser())
            )
        raise CheckpointError(
            f"'{shortened(text)}' does not name a network; write module:callable(arguments), such as {_EXAMPLE}."
        )
    call = match["call"] if match["call"].endswith(")") else f"{match['call']}()"
    try:
        tree = ast.parse(call.strip(), mode="eval").body
        if not isinstance(tree, ast.Call) or not re.fullmatch(r"[\w.]+", ast.unparse(tree.func)):
            raise ValueError
        arguments = tuple(ast.literal_eval(a) for a in tree.args)
        keywords: dict[Any, Any] = {k.arg: ast.literal_eval(k.value) for k in tree.keywords}
        if len(keywords) < len(tree.keywords):
            raise ValueError
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as exc:
        raise CheckpointError(
            f"The arguments in '{shortened(text)}' have to be plain values such as 3, 'batch' or (1, 2); for "
            "anything else write a function in a .py file."
        ) from exc
    if None in keywords:
        raise CheckpointError(
            f"'{shortened(text)}' has a ** argument; write each argument by itself."
        )
    name = ast.unparse(tree.func)
    place = (match["place"] or "").strip()
    if not place and name not in ARCHITECTURES:
        raise CheckpointError(
            f"'{shortened(name, 60)}' is not a built-in network; those are {', '.join(ARCHITECTURES)}. For others "
            f"write module:callable(arguments), such as {_EXAMPLE}."
        )
    if not place and arguments:
        raise CheckpointError(f"Give the arguments of {name} by name, such as n_classes=2.")
    return Factory(place, name, arguments, keywords)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        package = name.split(".", maxsplit=1)[0]
        raise CheckpointError(
            f"The network is in the Python module '{name}', which cannot be imported here "
            f"({shortened(exc)}). "
            f"Install it (pip install {package}) into the environment of napari, or give a .py file."
        ) from exc
    except (Exception, SystemExit) as exc:  # its code can raise anything
        raise CheckpointError(
            f"The Python module '{name}' cannot be imported: {_reason(exc)}. Correct it, or name another."
        ) from exc


def _reason(exc: BaseException) -> str:
    """An exception's first line, and which one it is."""
    lines = str(exc).strip().splitlines()
    first = shortened(lines[0].strip().rstrip(".")) if lines else ""
    return f"{first} ({type(exc).__name__})" if first else type(exc).__name__


def _run_file(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}; check its name and folder.")
    name = f"_napari_cnnvis_user_{abs(hash(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))  # it may import its neighbours
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as exc:  # a user's code can raise anything
        del sys.modules[name]
        raise CheckpointError(
            f"{path} cannot be run: {_reason(exc)}. Correct it, then try again."
        ) from exc
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def _callables(module: Any) -> str:
    home = module.__name__
    names = [
        name
        for name, value in vars(module).items()
        if callable(value)
        and not name.startswith("_")
        and str(getattr(value, "__module__", "")).startswith(home)
    ]
    return ", ".join(names[:8]) + ", ..." * (len(names) > 8) or "none"


def _candidates(path: Path) -> str:
    """What a file defines, found without running it."""
    try:
        body = ast.parse(path.read_text()).body
    except (OSError, SyntaxError, ValueError):
        return ""
    names = [n.name for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    return f" It defines {', '.join(names[:8])}." if names else ""
