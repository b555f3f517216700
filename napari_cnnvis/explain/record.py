"""A map's record that came out of a file, checked before anything is done with it.

A record is data. It is read from JSON that anybody can have written, then shown, run again and
turned into a script; so each of its parts has to be of the kind that a run writes.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from napari_cnnvis.errors import CnnVisError, MethodError, shortened
from napari_cnnvis.explain.request import ALIGNMENTS, JOINS, METHODS, PRECISIONS, QUANTITIES, SCORES
from napari_cnnvis.models.output_kinds import OUTPUT_KINDS
from napari_cnnvis.reading import read_small
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.ucm.options import BOUNDARIES
from napari_cnnvis.writing import companion

__all__ = ["checked_record", "is_record", "read_record"]

#: letters of a text in a record, entries of a list, how deep values are nested
_LONGEST_TEXT, _LONGEST_LIST, _DEEPEST = 4_000, 10_000, 8
#: maps that are no method's, but made of other maps
_DIFFERENCE = "Difference"

Check = Callable[[Any], Any]


def read_record(path: str | os.PathLike) -> dict[str, Any] | None:
    """The record beside a map; None if there is no JSON beside it, or it is something else's.

    Raises
    ------
    MethodError
        If it is a map's record, but a part of it is none that a run writes.
    """
    record = _record_in(companion(path))
    return None if record is None else checked_record(record)


def is_record(path: Path) -> bool:
    """Whether a JSON is the record of a map."""
    return _record_in(path) is not None


def _record_in(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(read_small(path))
    except (OSError, ValueError, RecursionError):
        return None
    known = {"method", "class_name", "versions"}
    return content if isinstance(content, dict) and known <= set(content) else None


def checked_record(record: Any) -> dict[str, Any]:
    """A map's record as plain values, of which each is of its kind.

    Parameters
    ----------
    record : mapping
        As a run or `json.loads` gives it.

    Raises
    ------
    MethodError
        If it is no record of a map, or a part of it is none that a run writes.
    """
    if not isinstance(record, Mapping) or "method" not in record:
        raise MethodError("This is no record of a map; a map is saved as two files, with a .json.")
    if record["method"] not in (*METHODS.values(), _DIFFERENCE):
        raise MethodError(
            f"The map's record names the method '{shortened(record['method'], 60)}', which cannot be "
            f"run; only {', '.join(METHODS.values())} can."
        )
    return _checked(record, _FIELDS, "")


def _checked(values: Any, fields: Mapping[str, Check], inside: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise _odd(inside, values)
    found = {}
    for name, value in values.items():
        where = f"{inside}.{name}" if inside else str(name)
        try:
            check = fields.get(name, _plain)
            found[_text(name)] = check(value)
        except MethodError:
            raise
        except (CnnVisError, TypeError, ValueError, OverflowError) as exc:
            raise _odd(where, value) from exc
    return found


def _odd(where: str, value: Any) -> MethodError:
    return MethodError(
        f"The map's record was changed or damaged: its '{shortened(where, 60)}' is "
        f"{shortened(repr(value), 60)}, which no run writes. Run the method again on the scan."
    )


# --- what a part may be; each check gives the value or raises ValueError -----------------


def _text(value: Any, longest: int = _LONGEST_TEXT) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError
    return value


def _one_of(choices: Collection[str], value: Any) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ValueError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not abs(value) < 2**53:
        raise ValueError
    return value


def _whole(value: Any, least: int = 0) -> int:
    if _integer(value) < least:
        raise ValueError
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    if not math.isfinite(value) or value < 0:
        raise ValueError
    return value


def _listed(check: Check, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple) or len(value) > _LONGEST_LIST:
        raise ValueError
    return [check(one) for one in value]


def _or_none(check: Check, value: Any) -> Any:
    return None if value is None else check(value)


def _texts_by_name(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or len(value) > _LONGEST_LIST:
        raise ValueError
    return {_text(k): _text(v) for k, v in value.items()}


def _plain(value: Any, depth: int = 0) -> Any:
    """Anything that JSON holds, of a bounded size."""
    if depth > _DEEPEST:
        raise ValueError
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return _listed(partial(_plain, depth=depth + 1), value)
    if isinstance(value, Mapping) and len(value) <= _LONGEST_LIST:
        return {_text(k): _plain(v, depth + 1) for k, v in value.items()}
    raise ValueError


def _axes(value: Any) -> str:
    """ "RAS", "LPI", ..."""
    letters = _text(value, 3)
    if not re.fullmatch("[RLAPSI]{3}", letters):
        raise ValueError
    return letters


def _input(value: Any) -> dict[str, Any]:
    """The fields of an `InputSpec`."""
    return InputSpec(**_plain(value)).to_dict()


def _part(fields: Mapping[str, Check], inside: str, value: Any) -> dict[str, Any]:
    return _checked(value, fields, inside)


_SCAN: dict[str, Check] = {
    "name": _text,
    "source": _text,
    "axes": _axes,
    "stored_axes": _axes,
    "shape": partial(_listed, _whole),
}
_SCAN["other_channels"] = partial(_listed, partial(_part, dict(_SCAN), "scan.other_channels"))
_MODEL: dict[str, Check] = {
    "architecture": _text,
    "path": partial(_or_none, _text),
    "arch": partial(_or_none, _text),
    "class_names": partial(_listed, _text),
    "names": partial(_listed, _text),
    "weights_sha256": _text,
    "output": partial(_one_of, OUTPUT_KINDS),
    "input": _input,
    "grid": partial(_listed, _whole),
    "device": _text,
}
_HIERARCHY: dict[str, Check] = {
    "boundary": partial(_one_of, BOUNDARIES),
    "counts": partial(_or_none, partial(_listed, _whole)),
    "files": partial(_listed, _text),
    "background": partial(_or_none, _integer),
}
_FIELDS: dict[str, Check] = {
    "method": partial(_one_of, (*METHODS.values(), _DIFFERENCE)),
    "class": _whole,
    "class_name": _text,
    "layer": partial(_or_none, _text),
    "relu": _flag,
    "alignment": partial(_one_of, ALIGNMENTS),
    "score": partial(_one_of, (*SCORES, "value")),
    "baseline": partial(_listed, _text),
    "baseline_sources": _texts_by_name,
    "quantity": partial(_one_of, QUANTITIES),
    "join": partial(_one_of, JOINS),
    "margin": _number,
    "smooth": _number,
    "levels": partial(_listed, _whole),
    "level_counts": partial(_or_none, partial(_listed, _whole)),
    "level_weights": partial(_or_none, partial(_listed, _number)),
    "hierarchy": partial(_part, _HIERARCHY, "hierarchy"),
    "precision": partial(_one_of, PRECISIONS),
    "size": partial(_whole, least=1),
    "stride": partial(_whole, least=1),
    "inside": partial(_one_of, ("head", "everywhere", "mask")),
    "shown": _text,
    "model": partial(_part, _MODEL, "model"),
    "scan": partial(_part, _SCAN, "scan"),
    "versions": _texts_by_name,
    "time": _text,
    "partial": _flag,
    "notes": partial(_listed, _text),
}
