"""What the parts of a map's record may be; each check gives the value or raises ValueError.

A record is data. It is read from JSON that anybody can have written, then shown, run again and
turned into a script; so each of its parts has to be of the kind that a run writes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

from napari_cnnvis.errors import CnnVisError, MethodError, shortened
from napari_cnnvis.explain.common_parameters import SCORES
from napari_cnnvis.explain.method import Method
from napari_cnnvis.explain.parameter import Parameter
from napari_cnnvis.models.further_inputs import is_scan_file
from napari_cnnvis.models.output_kinds import OUTPUT_KINDS
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.ucm.options import BOUNDARIES

__all__ = ["checked_parts"]

#: letters of a text in a record, entries of a list, how deep values are nested
_LONGEST_TEXT, _LONGEST_LIST, _DEEPEST = 4_000, 10_000, 8

Check = Callable[[Any], Any]


def checked_parts(
    values: Mapping[str, Any], method: type[Method] | None, others: Iterable[type[Method]] = ()
) -> dict[str, Any]:
    """The parts of a record as plain values, of which each is of its kind.

    Parameters
    ----------
    values : mapping
        As a run or `json.loads` gives it.
    method : type of Method, optional
        The method that the record names.
    others : iterable of type of Method
        Their parameters are checked as well, where the method has none of the name.

    Raises
    ------
    MethodError
        If a part is not of the kind that a run writes.
    """
    kinds = [*others, *([] if method is None else [method])]
    own = {p.stored: partial(_parameter, p) for kind in kinds for p in kind.parameters().values()}
    return _checked(values, {**own, **_FIELDS}, "")


def _parameter(parameter: Parameter, value: Any) -> Any:
    """A parameter's plain value; the values of a regression have a score of their own."""
    if parameter.kind == "baselines":  # names, of scans too
        return _listed(_text, value)
    if parameter.name == "score" and value == "value":
        return value
    try:
        return parameter.plain(parameter.read(value))
    except MethodError as exc:
        raise ValueError from exc


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


def _extra(value: Any) -> dict[str, Any]:
    """Numbers, lists of numbers, or files, by name."""
    if not isinstance(value, Mapping) or len(value) > _LONGEST_LIST:
        raise ValueError
    return {
        _text(name): _text(given)
        if is_scan_file(given)
        else _listed(_real, given)
        if isinstance(given, list)
        else _real(given)
        for name, given in value.items()
    }


def _real(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return value


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
    "head": _text,
    "head_source": _text,
    "shape": partial(_listed, _whole),
}
_SCAN["other_channels"] = partial(_listed, partial(_part, dict(_SCAN), "scan.other_channels"))
_MODEL: dict[str, Check] = {
    "architecture": _text,
    "path": partial(_or_none, _text),
    "more_files": partial(_listed, _text),
    "arch": partial(_or_none, _text),
    "class_names": partial(_listed, _text),
    "names": partial(_listed, _text),
    "weights_sha256": _text,
    "output": partial(_one_of, OUTPUT_KINDS),
    "scores": _text,
    "extra": _extra,
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
#: parts that records of all methods may have; parameters of methods are checked by these
#: where they had other values in earlier versions
_FIELDS: dict[str, Check] = {
    "method": _text,
    "class": _whole,
    "class_name": _text,
    "layer": partial(_or_none, _text),
    "score": partial(_one_of, (*SCORES, "value")),
    "baseline_sources": _texts_by_name,
    "levels": partial(_listed, _whole),
    "level_counts": partial(_or_none, partial(_listed, _whole)),
    "level_weights": partial(_or_none, partial(_listed, _number)),
    "hierarchy": partial(_part, _HIERARCHY, "hierarchy"),
    "shown": partial(_or_none, _text),
    "model": partial(_part, _MODEL, "model"),
    "scan": partial(_part, _SCAN, "scan"),
    "versions": _texts_by_name,
    "time": _text,
    "partial": _flag,
    "notes": partial(_listed, _text),
}
