"""PyTorch files: weights are read from them without running any code that they name.

A PyTorch file is a pickle, and a pickle is a list of calls. What names nothing but
tensors and plain containers is read by torch's own ``weights_only`` reader. Other
files, such as Lightning checkpoints with settings of any class, or whole networks,
are read with stand-ins: each class or function that the file names becomes an empty
object that only remembers its name and what it was given.
"""

from __future__ import annotations

import _compat_pickle
import builtins
import collections
import contextlib
import functools
import io
import pickle
import pickletools
import types
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from napari_cnnvis.errors import CheckpointError, shortened

__all__ = ["StandIn", "load_pickle", "modules_state"]

#: modules whose names in a checkpoint are a sign of malice, not of settings
_HOSTILE = {
    *("os", "posix", "nt", "subprocess", "sys", "shutil", "socket", "pty", "runpy", "importlib"),
    *("ctypes", "code", "multiprocessing", "webbrowser", "urllib", "requests", "pip", "pickle"),
}
_HOSTILE_BUILTINS = {
    f"builtins.{name}"
    for name in ("eval", "exec", "execfile", "compile", "open", "__import__", "input", "breakpoint")
} | {"io.open", "_io.open"}
_PLAIN = {
    ("builtins", name)
    for name in [
        "bool",
        "bytearray",
        "bytes",
        "complex",
        "dict",
        "float",
        "frozenset",
        "int",
        "list",
        "object",
        "set",
        "slice",
        "str",
        "tuple",
    ]
} | {("collections", "OrderedDict"), ("collections", "defaultdict"), ("collections", "Counter")}
#: those that are no larger than a number, however they are called
_SMALL = {("builtins", name) for name in ("bool", "complex", "float", "int", "object", "slice")}
#: so many items may be made of a file of any size, and so many more for each byte of it
_ITEMS, _ITEMS_PER_BYTE = 10_000_000, 10


class _TooMuch(CheckpointError):
    """A pickle asks for far more memory than its size can need."""


class _Allowance:
    """What the containers of one file may still hold, so that a few bytes cannot fill the memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._left = _ITEMS + _ITEMS_PER_BYTE * path.stat().st_size

    def limited(self, kind: type) -> Callable[..., Any]:
        """A builder of a container that stops before it makes too much."""

        def build(*given: Any, **named: Any) -> Any:
            for one in given:
                whole = isinstance(one, int) and kind in (bytearray, bytes)
                self.take(one if whole else len(one) if hasattr(one, "__len__") else 1)
            return kind(*given, **named)

        return build

    def take(self, items: int) -> None:
        """Count items.

        Raises
        ------
        CheckpointError
            If there are too many.
        """
        self._left -= items
        if self._left < 0:
            raise _TooMuch(
                f"{self._path} would take far more memory than its size on loading, which has no place "
                "in a checkpoint; it was not read."
            )


class StandIn(dict):
    """What a class or function named by a file becomes: it keeps what it is given, and does nothing."""

    #: "module.name"
    stands_for = ""

    def __init__(self, *given: Any, **_: Any) -> None:
        super().__init__()
        self.given = given
        self.items_given: list[Any] = []

    def __new__(cls, *_: Any, **__: Any) -> StandIn:
        return dict.__new__(cls)

    def __call__(self, *_: Any, **__: Any) -> StandIn:
        return StandIn()

    def __hash__(self) -> int:  # type: ignore[override]  # a dict has none
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.__dict__.update({str(k): v for k, v in part.items()})

    def append(self, item: Any) -> None:
        self.__dict__.setdefault("items_given", []).append(item)

    def extend(self, items: Any) -> None:
        for item in items:
            self.append(item)

    add = append


class _Reader(pickle.Unpickler):
    """Finds plain containers and torch's tensor builders; anything else becomes a `StandIn`."""

    def __init__(self, *args: Any, met: set[str], allowance: _Allowance, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._met, self._allowance = met, allowance

    def find_class(self, module: str, name: str) -> Any:
        module, name = _compat_pickle.NAME_MAPPING.get(  # as Python 2 called it
            (module, name), (_compat_pickle.IMPORT_MAPPING.get(module, module), name)
        )
        if (module, name) in _PLAIN:
            kind = getattr(collections if module == "collections" else builtins, name)
            return kind if (module, name) in _SMALL else self._allowance.limited(kind)
        if (module, name) == ("_codecs", "encode"):  # how older protocols write bytes
            return lambda text, _="latin1": self._allowance.limited(bytes)(text.encode("latin1"))
        if module == "torch._utils" and name in _BUILDERS:
            build = getattr(torch._utils, name)
            return lambda *given: build(*given)  # a file can change attributes of what it is given
        if module == "torch.storage" and name == "_load_from_bytes":
            return lambda content: _tensors_only(content)
        if module == "torch" and name in ("Size", "device"):
            return getattr(torch, name)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if module == "torch.nn.parameter" and name == "Parameter":
            return nn.Parameter
        full = f"{module}.{name}"
        self._met.add(full)
        return type(name, (StandIn,), {"stands_for": full})


def _tensors_only(content: bytes) -> Any:
    """The numbers of a tensor in a plain pickle."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


_BUILDERS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")


def load_pickle(path: Path, trust: bool) -> tuple[Any, tuple[str, ...], str]:
    """What a PyTorch file holds, the names of what was replaced by stand-ins, and what failed.

    A file that is trusted but whose code fails is read as one that is not; the last of what is
    given says why, else it is "".

    Parameters
    ----------
    path : Path
    trust : bool
        Run what the file names, instead of using stand-ins.

    Raises
    ------
    CheckpointError
        If it cannot be read, or names code that has no place in a checkpoint.
    """
    if not trust:
        return *_load_untrusted(path), ""
    try:
        return _load_trusted(path), (), ""
    except CheckpointError as exc:
        try:
            return *_load_untrusted(path), str(exc)
        except CheckpointError:
            raise exc from exc.__cause__


def _load_untrusted(path: Path) -> tuple[Any, tuple[str, ...]]:
    """What a file holds with stand-ins for all but plain values, and the names of these."""
    if not _names_bytearray(path):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's guesses about foreign pickles
                return torch.load(path, map_location="cpu", weights_only=True), ()
        except Exception:  # a damaged file can raise anything
            pass
    met: set[str] = set()
    try:
        content = _load_with(path, met)
    except Exception as exc:
        _refuse_hostile(path, met)
        if isinstance(exc, _TooMuch):
            raise
        raise CheckpointError(
            f"{path} is not a checkpoint that can be read (safetensors, PyTorch or Lasagne .npz), or "
            "it is incomplete; copy or download it again."
        ) from exc
    _refuse_hostile(path, met)
    return content, tuple(sorted(met))


def _pickles(path: Path) -> Iterator[IO[bytes]]:
    """The pickles of a PyTorch file, in a zip or as it is."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith("data.pkl"):
                with archive.open(member) as file:
                    yield file


def _names_bytearray(path: Path) -> bool:
    """Whether a file may ask for a bytearray, which torch's reader makes of any length."""
    word = b"bytearray"
    with contextlib.suppress(Exception):  # damaged: the readers say so
        for file in _pickles(path):
            end = b""
            while piece := file.read(1 << 22):
                if word in end + piece:
                    return True
                end = piece[-len(word) :]
    return False


def _check_memo(path: Path) -> None:
    """Raise if a pickle numbers what it remembers far beyond what there is: a table is made of that.

    Raises
    ------
    CheckpointError
    """
    with contextlib.suppress(*_DAMAGED):
        for file in _pickles(path):
            count = 0
            for _ in range(_PICKLES_IN_A_FILE):
                for operation, number, _ in pickletools.genops(file):
                    count += 1
                    if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and (number or 0) > count:
                        raise _TooMuch(
                            f"{path} is damaged or made to fill the memory; it was not read. Copy or "
                            "download it again."
                        )


#: what pickletools and zipfile raise on damaged bytes, which the reader then says
_DAMAGED = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    IndexError,
    NotImplementedError,
    zlib.error,
    zipfile.BadZipFile,
)
#: torch's older format: a number, a version, about the system, the weights, their keys
_PICKLES_IN_A_FILE = 5


def _load_with(path: Path, met: set[str]) -> Any:
    """`torch.load` with stand-ins; a plain pickle of another program counts as well."""
    _check_memo(path)
    allowance = _Allowance(path)
    reader = functools.partial(_Reader, met=met, allowance=allowance)
    module = types.SimpleNamespace(
        # torch derives a class of its own from it
        Unpickler=type(
            "Unpickler",
            (_Reader,),
            {"__init__": functools.partialmethod(_Reader.__init__, met=met, allowance=allowance)},
        ),
        load=lambda file, **kwargs: reader(file, **kwargs).load(),
        UnpicklingError=pickle.UnpicklingError,
        __name__="pickle",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.load(path, map_location="cpu", pickle_module=module, weights_only=False)
        except _TooMuch:
            raise
        except Exception:
            with path.open("rb") as file:
                content = reader(file).load()
            if content == torch.serialization.MAGIC_NUMBER:  # of an older torch file
                raise
            return content


def _refuse_hostile(path: Path, met: set[str]) -> None:
    hostile = sorted(
        name for name in met if name.split(".")[0] in _HOSTILE or name in _HOSTILE_BUILTINS
    )
    if hostile:
        raise CheckpointError(
            f"{path} would run '{hostile[0]}' on loading, which has no place in a checkpoint; "
            "nothing of it was run. Only if you know why it does that, load it with trust=True."
        )


def _load_trusted(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as exc:
        raise CheckpointError(
            f"{path} needs Python code that is not installed here ({exc}). Install that package, or "
            "save model.state_dict() where it is and name the network: arch='module:callable(...)'."
        ) from exc
    except (Exception, SystemExit) as exc:  # the file's code can raise anything
        raise CheckpointError(
            f"{path} is not a checkpoint that can be read, its Python code fails here, or it is "
            f"incomplete ({shortened(f'{type(exc).__name__}: {exc}', 150)}); copy or download it again, or "
            "load it without trust."
        ) from exc


def modules_state(stand_in: StandIn, prefix: str = "") -> dict[str, torch.Tensor]:
    """The weights of a pickled network that was read with stand-ins, by name."""
    return dict(_walk(stand_in, prefix))


def _walk(part: Any, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    inside = getattr(part, "__dict__", {})
    left_out = inside.get("_non_persistent_buffers_set") or ()
    for kind in ("_parameters", "_buffers"):
        for name, tensor in (inside.get(kind) or {}).items():
            if isinstance(tensor, torch.Tensor) and name not in left_out:
                yield prefix + name, tensor
    for name, child in (inside.get("_modules") or {}).items():
        yield from _walk(child, f"{prefix}{name}.")
