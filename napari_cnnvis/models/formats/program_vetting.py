"""Is a program what it says it is, before torch reads it?

torch evaluates the sizes in an exported program (``.pt2``) as Python expressions, looks
operations up by name, writes names into Python code and unpickles objects, so that a
forged file could run code on reading; and TorchScript can write files. So torch is handed
a copy in which there is nothing but known operations, sizes, plain names and tensors.
"""

from __future__ import annotations

import ast
import io
import json
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from napari_cnnvis.errors import CheckpointError

__all__ = ["PLAIN_NAME", "vetted_copy", "vetted_script"]

#: names that may become part of Python code
PLAIN_NAME = re.compile(r"[\w.\-]+")
#: what a graph's operations may be called; anything else could run code
_OPERATION = re.compile(
    r"torch\.ops\.(aten|prims|higher_order)\.[a-z]\w*(\.[A-Za-z]\w*)?|torch\.sym_\w+|"
    r"_operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|pos|abs|getitem|eq|ne|lt|le|gt|ge|and_|or_|"
    r"not_|invert|lshift|rshift)|math\.(ceil|floor|trunc|sqrt|pow)"
)
#: operations that write to the disk, read from it, or call Python
_REACHING = ("save", "load", "from_file")
_SCRIPT_REACHING = re.compile(rb"\b(save|from_file|PythonOp)\b")
#: symbolic sizes are evaluated when a program is read
_FUNCTIONS = frozenset(
    [
        "Symbol",
        "Integer",
        "Rational",
        "Float",
        "Add",
        "Mul",
        "Pow",
        "Max",
        "Min",
        "Mod",
        "PythonMod",
        "FloorDiv",
        "CeilDiv",
        "CleanDiv",
        "ModularIndexing",
        "Eq",
        "Ne",
        "Lt",
        "Le",
        "Gt",
        "Ge",
        "Equality",
        "Unequality",
        "StrictLessThan",
        "LessThan",
        "StrictGreaterThan",
        "GreaterThan",
        "And",
        "Or",
        "Not",
        "IntTrueDiv",
        "FloatTrueDiv",
        "ToFloat",
        "TruncToInt",
        "TruncToFloat",
        "FloorToInt",
        "CeilToInt",
        "RoundToInt",
        "Where",
        "Abs",
        "floor",
        "ceiling",
        "PowByNatural",
        "Identity",
    ]
)
_SYMBOL = re.compile(r"[a-z]\w*\d|true|false|oo|int_oo")
_POWERS = ("Pow", "PowByNatural")
_LARGEST_POWER = 8
_STRING = re.compile(r"[\w.\-+*/ ,:>]*")

_TOP = r"(?:[^/]+/)?"  # the folder that torch puts everything into
_GRAPHS = re.compile(rf"{_TOP}models/[\w.\-]+\.json|serialized_exported_program\.json")
_PAYLOADS = re.compile(rf"{_TOP}data/(weights|constants)/[\w.\-]+_config\.json")
_PICKLES = re.compile(
    rf"{_TOP}data/(weights|constants|sample_inputs)/[\w.\-]+\.pt|"
    r"serialized_(state_dict|constants|example_inputs)\.pt"
)
_PLAIN_FILES = re.compile(
    rf"{_TOP}(archive_format|archive_version|byteorder|version|\.data/\w+|\.\w+)|"
    rf"{_TOP}data/(weights/weight|constants/tensor)_\d+"
)
_LEFT_OUT = re.compile(rf"{_TOP}(extra|extra_files)/.*|.*/")
_CODE = re.compile(r".*\.(so|py|dll|dylib|cpp|o|cubin|pyc)|(.*/)?aotinductor/.*")
_TREES = (None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")


def vetted_copy(path: Path) -> io.BytesIO:
    """A ``.pt2`` file's content, if it holds nothing but operations, sizes and tensors.

    What was saved on a GPU is on the CPU in the copy.

    Raises
    ------
    CheckpointError
        If there is anything else in it, or it is damaged.
    """
    return _copied(path, _vetted, "an exported program (.pt2)")


def vetted_script(path: Path) -> io.BytesIO:
    """A TorchScript file's content, if its code writes and reads no files.

    Raises
    ------
    CheckpointError
        If it does, or the file is damaged.
    """
    return _copied(path, _vetted_code, "a TorchScript program")


def _copied(
    path: Path, vetted: Callable[[str, zipfile.ZipFile, Path], bytes | None], kind: str
) -> io.BytesIO:
    """A zip of the members that are vetted, so that torch sees what was looked at, and only that."""
    copy = io.BytesIO()
    try:
        with zipfile.ZipFile(path) as file, zipfile.ZipFile(copy, "w") as target:
            names = file.namelist()
            if len({name.casefold() for name in names}) < len(names):
                raise _holds(path, "two files of one name")
            for name in names:
                content = vetted(name, file, path)
                if content is not None:
                    target.writestr(name, content)
    except CheckpointError:
        raise
    except (
        *(zipfile.BadZipFile, OSError, ValueError, RecursionError, RuntimeError, EOFError),
        *(zlib.error, KeyError, TypeError, AttributeError, NotImplementedError, IndexError),
    ) as exc:
        raise CheckpointError(
            f"{path} is not complete, or not {kind}; copy or download it again."
        ) from exc
    copy.seek(0)
    return copy


def _vetted_code(name: str, file: zipfile.ZipFile, path: Path) -> bytes:
    content = file.read(name)
    found = _SCRIPT_REACHING.search(content) if name.endswith(".py") else None
    if found:
        raise _holds(path, f"the operation '{found.group().decode()}'")
    return content


def _vetted(name: str, file: zipfile.ZipFile, path: Path) -> bytes | None:
    """A member's content, None if torch needs none of it."""
    if _CODE.fullmatch(name):
        raise _holds(path, "compiled code")
    if _LEFT_OUT.fullmatch(name):
        return None
    if _PLAIN_FILES.fullmatch(name):
        return file.read(name)
    if _PICKLES.fullmatch(name):
        return _only_tensors(file.read(name), path)
    if _GRAPHS.fullmatch(name) or _PAYLOADS.fullmatch(name):
        content = json.loads(file.read(name))
        _vet(content, path)
        if _PAYLOADS.fullmatch(name):
            _vet_payload(content, path)
        return json.dumps(content).encode()
    raise _holds(path, f"the file '{name[-60:]}'")


def _only_tensors(content: bytes, path: Path) -> bytes:
    if not content:
        return content
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as exc:
        raise _holds(path, "Python objects") from exc
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


def _vet_payload(content: Any, path: Path) -> None:
    """Each tensor of a table lies in a file of plain numbers."""
    for entry in content["config"].values():
        if not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]) or entry.get("use_pickle"):
            raise _holds(path, "Python objects")


def _vet(part: Any, path: Path, key: str = "") -> None:
    """Look at all names and values of a graph; what was on a GPU is put on the CPU."""
    if isinstance(part, str):
        if not _is_plain(part, key):
            what = {"target": "operation", "as_operator": "operation", "expr_str": "expression"}
            raise _holds(path, f"the {what.get(key, 'text')} '{part[:60]}'")
    elif isinstance(part, list):
        for item in part:
            _vet(item, path, key)
    elif isinstance(part, dict):
        if "as_custom_obj" in part:
            raise _holds(path, "Python objects")
        if part.keys() == {"type", "index"} and part["type"] == "cuda":
            part.update(type="cpu", index=None)
        if "guards_code" in part:
            part["guards_code"] = []  # code; the operations themselves say what does not fit
        for name, value in part.items():
            _vet(name, path)
            if name != "metadata":  # notes for programmers, see programs._stack
                _vet(value, path, name)


def _is_plain(text: str, key: str) -> bool:
    if key == "as_operator" or (
        key == "target" and text.startswith(("torch", "_operator", "math"))
    ):
        last = text.split(".")[-2:]
        return bool(_OPERATION.fullmatch(text)) and not any(name in _REACHING for name in last)
    if key == "expr_str":
        return _is_size(text)
    if key in ("in_spec", "out_spec"):
        return not text or _is_tree(json.loads(text)[-1])
    return key in ("as_string", "as_strings") or bool(_STRING.fullmatch(text))


def _is_tree(tree: dict) -> bool:
    """How inputs or outputs are nested: in plain containers."""
    return (
        tree["type"] in _TREES
        and "__enum__" not in str(tree["context"])
        and all(_is_tree(child) for child in tree["children_spec"])
    )


def _is_size(expression: str) -> bool:
    try:
        return len(expression) < 100_000 and _is_term(ast.parse(expression, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _is_term(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) and abs(node.value) <= 2**63
    if isinstance(node, ast.Name):
        return bool(_SYMBOL.fullmatch(node.id))
    if isinstance(node, ast.UnaryOp):
        return _is_term(node.operand)
    if isinstance(node, ast.BinOp):
        fine = not isinstance(node.op, ast.Pow) or _is_small(node.right)
        shifts = isinstance(node.op, ast.LShift | ast.RShift | ast.MatMult)
        return fine and not shifts and _is_term(node.left) and _is_term(node.right)
    if isinstance(node, ast.BoolOp):
        return all(map(_is_term, node.values))
    if isinstance(node, ast.Compare):
        return all(map(_is_term, [node.left, *node.comparators]))
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return False
    if any(not isinstance(k.value, ast.Constant) or k.arg is None for k in node.keywords):
        return False
    name, given = node.func.id, node.args
    if name in ("Symbol", "Float") and len(given) == 1 and isinstance(given[0], ast.Constant):
        return bool(re.fullmatch(r"[\w.\-+]+", str(given[0].value)))
    if name in _POWERS and not (len(given) == 2 and _is_small(given[1])):
        return False
    return name in _FUNCTIONS and all(map(_is_term, given))


def _is_small(node: ast.AST) -> bool:
    """A power that can be computed."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Integer":
        node = node.args[0] if len(node.args) == 1 else node
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    return isinstance(node, ast.Constant) and node.value in range(_LARGEST_POWER + 1)


def _holds(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path} holds {what}, which a network's operations and weights do not need; it was not "
        "opened. Save model.state_dict() instead."
    )
