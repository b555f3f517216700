"""Networks by name: built-in ones, callables of installed packages, callables in a user's file.

``VoxVGG(n_classes=3)``, ``monai.networks.nets:DenseNet121(spatial_dims=3, in_channels=1,
out_channels=2)``, ``my_nets.py:make_net(width=16)``. Arguments are plain values, never
code.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.architectures import ARCHITECTURES, build

__all__ = ["Factory", "parse_architecture"]

#: packages of networks only, which a file may name without being trusted
_KNOWN = ("monai.networks.nets", "torchvision.models", "napari_cnnvis.models")
_EXAMPLE = "'monai.networks.nets:DenseNet121(spatial_dims=3, in_channels=1, out_channels=2)'"


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

    @property
    def is_known(self) -> bool:
        """Whether running it is safe: a built-in network, or one of a package of networks."""
        return not self.is_file and (
            not self.place or any(f"{self.place}.".startswith(f"{k}.") for k in _KNOWN)
        )

    def __str__(self) -> str:
        values = [repr(a) for a in self.arguments]
        values += [f"{key}={value!r}" for key, value in self.keywords.items()]
        return f"{self.place}{':' * bool(self.place)}{self.name}({', '.join(values)})"

    def build(self, trust: bool = False, by_user: bool = True) -> nn.Module:
        """Make the network, with fresh weights.

        Parameters
        ----------
        trust : bool
            Run code from a ``.py`` file, or what a checkpoint names by itself.
        by_user : bool
            The user named it; False if it comes from a file.

        Raises
        ------
        CheckpointError
            If it is not there, does not make a network, or needs trust.
        """
        if not self.place:
            return build(self.name, self.keywords)
        if not trust and (self.is_file or not (by_user or self.is_known)):
            whose = (
                f"The file {self.place}" if self.is_file else f"'{self}', named by the checkpoint,"
            )
            raise CheckpointError(
                f"{whose} would run Python code. If you trust where it comes from, say so: "
                "trust=True in Python, --trust on the command line, the tick box in the panel."
            )
        made = self._call(self._callable())
        if not isinstance(made, nn.Module):
            raise CheckpointError(
                f"'{self}' gives a {type(made).__name__}, not a torch.nn.Module; name a class or "
                "function that makes the network."
            )
        return made

    def _callable(self) -> Any:
        module = _run_file(Path(self.place).expanduser()) if self.is_file else _import(self.place)
        found = module
        for part in self.name.split("."):
            found = getattr(found, part, None)
        if not callable(found):
            raise CheckpointError(
                f"{self.place} has nothing called '{self.name}' that can be called; it has "
                f"{_callables(module)}."
            )
        if not self.is_file and self.is_known and not self._makes_networks(found):
            raise CheckpointError(
                f"'{self.place}:{self.name}' is not a network of {self.place}; name the module that "
                "defines it."
            )
        return found

    def _makes_networks(self, found: Any) -> bool:
        """A package of networks also holds helpers, and what it imports from elsewhere."""
        home = f"{getattr(found, '__module__', '') or ''}."
        if not any(home.startswith(f"{k}.") for k in _KNOWN):
            return False
        if isinstance(found, type):
            return issubclass(found, nn.Module)
        return "." not in self.name and not home.startswith("napari_cnnvis.")

    def _call(self, make: Any) -> Any:
        keywords = dict(self.keywords)
        if keywords.get("pretrained"):
            keywords["pretrained"] = False  # the weights come from the file, not from a download
        if "weights" in keywords and self.place.startswith("torchvision"):
            keywords["weights"] = None
        try:
            return make(*self.arguments, **keywords)
        except (Exception, SystemExit) as exc:  # a user's code can raise anything
            raise CheckpointError(
                f"'{self}' cannot be built: {_reason(exc)}. Check its arguments."
            ) from exc


def parse_architecture(text: str) -> Factory:
    """Read ``module:callable(arguments)``, ``file.py:callable(...)`` or a built-in network's name.

    Raises
    ------
    CheckpointError
        If it is none of these, or an argument is not a plain value.
    """
    text = text.strip()
    match = re.fullmatch(r"(?:(?P<place>.+?):)?(?P<call>[A-Za-z_][\w.]*\s*(?:\(.*\))?)", text, re.S)
    if match is None or (match["place"] is None and text.endswith(".py")):
        if text.endswith(".py"):
            raise CheckpointError(
                f"Say what makes the network in {text}: {text}:MyNet or {text}:make_net(width=16)."
                + _candidates(Path(text).expanduser())
            )
        raise CheckpointError(
            f"'{text}' does not name a network; write module:callable(arguments), such as {_EXAMPLE}."
        )
    call = match["call"] if match["call"].endswith(")") else f"{match['call']}()"
    try:
        tree = ast.parse(call.strip(), mode="eval").body
        if not isinstance(tree, ast.Call) or not re.fullmatch(r"[\w.]+", ast.unparse(tree.func)):
            raise ValueError
        arguments = tuple(ast.literal_eval(a) for a in tree.args)
        keywords = {k.arg: ast.literal_eval(k.value) for k in tree.keywords}
        if len(keywords) < len(tree.keywords):
            raise ValueError
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as exc:
        raise CheckpointError(
            f"The arguments in '{text}' have to be plain values such as 3, 'batch' or (1, 2); for "
            "anything else write a function in a .py file."
        ) from exc
    if None in keywords:
        raise CheckpointError(f"'{text}' has a ** argument; write each argument by itself.")
    name = ast.unparse(tree.func)
    place = (match["place"] or "").strip()
    if not place and name not in ARCHITECTURES:
        raise CheckpointError(
            f"'{name}' is not a built-in network; those are {', '.join(ARCHITECTURES)}. For others "
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
            f"The network is in the Python module '{name}', which cannot be imported here ({exc}). "
            f"Install it (pip install {package}) into the environment of napari, or give a .py file."
        ) from exc
    except (Exception, SystemExit) as exc:  # its code can raise anything
        raise CheckpointError(
            f"The Python module '{name}' cannot be imported: {_reason(exc)}. Mend it, or name another."
        ) from exc


def _reason(exc: BaseException) -> str:
    """An exception's first line, and which one it is."""
    lines = str(exc).strip().splitlines()
    first = lines[0].strip().rstrip(".") if lines else ""
    return f"{first} ({type(exc).__name__})" if first else type(exc).__name__


def _run_file(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}; check its name and folder.")
    name = f"_napari_cnnvis_user_{abs(hash(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))  # it may import its neighbours
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as exc:  # a user's code can raise anything
        del sys.modules[name]
        raise CheckpointError(
            f"{path} cannot be run: {_reason(exc)}. Mend it, then try again."
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
