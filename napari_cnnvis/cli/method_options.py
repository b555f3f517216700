"""The options that say which map to compute, and the request that follows from them."""

from __future__ import annotations

import argparse
import os
from typing import Any

from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.explain.parameter import Parameter
from napari_cnnvis.explain.registry import methods
from napari_cnnvis.explain.request import ExplainRequest

__all__ = [
    "add_head",
    "add_method_options",
    "add_scan",
    "given_hierarchy",
    "given_request",
    "open_baseline",
    "read_scan",
    "with_given_head",
]

#: before the names of options in what argparse gives
_PREFIX = "parameter:"
_TYPES = {"whole": int, "wholes": int, "number": float, "numbers": float}


def add_scan(parser: argparse.ArgumentParser) -> None:
    """Add the scan and its further channels to a command."""
    parser.add_argument("scan", help="the scan: .nii, .nii.gz, .mgz, ...")
    parser.add_argument(
        "--channel",
        action="append",
        default=[],
        metavar="SCAN",
        help="the next input channel, on the same grid; once for each of them",
    )
    add_head(parser)


def add_head(parser: argparse.ArgumentParser) -> None:
    """Add the head mask of a scan to a command."""
    parser.add_argument(
        "--head",
        metavar="MASK",
        help="a mask on the scan's grid, not 0 inside the head (default: the head is found)",
    )


def with_given_head(volume: Any, options: argparse.Namespace) -> Any:
    """A scan with the head mask that was given, if one was."""
    if options.head is None:
        return volume
    from napari_cnnvis.scan.files import read_volume

    return volume.with_head(read_volume(options.head))


def read_scan(options: argparse.Namespace) -> tuple[Any, ...]:
    """The scan, with its head mask if one was given, and its further channels."""
    from napari_cnnvis.scan.files import read_volume

    first, *others = (read_volume(path) for path in (options.scan, *options.channel))
    return with_given_head(first, options), *others


def add_method_options(group: Any) -> None:
    """Add the methods and all their parameters to a command or to a group of its options.

    After the command's own options: a parameter of a name that these have gets its method's key
    before it.
    """
    group.add_argument(
        "--method", choices=methods(), default="grad-cam", help="default: %(default)s"
    )
    group.add_argument(
        "--target", help="class to explain, by name or number (default: the predicted one)"
    )
    for option, uses in _options().items():
        _add(group, option, uses)
    group.add_argument(
        "--supervoxels",
        nargs="+",
        metavar="FILE",
        help="sensitivity: a hierarchy written by 'supervoxels', nested label volumes, fine to "
        "coarse, or an atlas (0 = background); default: built from the scan",
    )


def _options() -> dict[str, dict[str, Parameter]]:
    """For each option the parameter of each method that has it, by the method's key.

    Methods share an option where their parameters are alike; else it gets the key before it.
    """
    found: dict[str, dict[str, Parameter]] = {}
    for key, method in methods().items():
        for parameter in method.parameters().values():
            uses = found.setdefault(parameter.option, {})
            if any(_form_of(other) != _form_of(parameter) for other in uses.values()):
                uses = found.setdefault(f"{key}-{parameter.option}", {})
            uses[key] = parameter
    return found


#: what stands for a value in the help, by the parameter's kind
_METAVARS = {"class": "CLASS", "wholes": "N", "numbers": "NUMBER", "baselines": "BASELINE"}


def _form_of(parameter: Parameter) -> tuple[Any, ...]:
    return parameter.kind, tuple(parameter.choices or ()), parameter.flag_value


def _add(group: Any, option: str, uses: dict[str, Parameter]) -> None:
    parameter = next(iter(uses.values()))
    whose = "" if len(uses) == len(methods()) else f"{', '.join(uses)}: "
    how: dict[str, Any] = {"dest": _PREFIX + option, "default": argparse.SUPPRESS}
    how["help"] = (whose + parameter.tip[0].lower() + parameter.tip[1:]).replace("%", "%%")
    if parameter.flag_value is not None:
        how |= {"action": "store_const", "const": parameter.flag_value}
    elif parameter.kind == "flag":
        how["action"] = argparse.BooleanOptionalAction
    else:
        how |= _taking_a_value(parameter, option)
    try:
        group.add_argument(f"--{option}", **how)
    except argparse.ArgumentError:  # the command has such an option of its own
        group.add_argument(f"--{next(iter(uses))}-{option}", **how)


def _taking_a_value(parameter: Parameter, option: str) -> dict[str, Any]:
    how: dict[str, Any] = {}
    if parameter.choices:
        how["choices"] = list(parameter.choices)
    elif parameter.unit:
        how["metavar"] = {"s": "SECONDS", "mm": "MM"}.get(parameter.unit, parameter.unit.upper())
    else:
        how["metavar"] = _METAVARS.get(parameter.kind, option.rpartition("-")[2].upper())
    if parameter.kind in _TYPES:
        how["type"] = _TYPES[parameter.kind]
    if parameter.kind in ("wholes", "numbers", "baselines"):
        how["nargs"] = "+"
    return how


def given_request(options: argparse.Namespace, model: Any, predictions: Any) -> ExplainRequest:
    """What the options ask for; `predictions` are the model's for the scan.

    Raises
    ------
    CnnVisError
        If options do not go together.
    """
    method = methods()[options.method]
    if options.supervoxels and not method.takes_hierarchy:
        raise CnnVisError("--supervoxels needs --method sensitivity.")
    parameters = _given(options)
    if parameters.get("layer") == "all":
        raise CnnVisError("Choose one layer for --layer; a file holds one map.")
    target = options.target
    if target is None:
        target = int(predictions.argmax()) if model.outputs.has_probabilities else 1
    elif target not in model.class_names and target.isdigit():
        target = int(target)
    return ExplainRequest(options.method, target, **parameters)


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The parameters of the method that were given.

    Raises
    ------
    CnnVisError
        If one belongs to other methods only.
    """
    parameters, offered = {}, _options()
    for dest, value in vars(options).items():
        option = dest.removeprefix(_PREFIX)
        if option == dest:
            continue
        uses = offered[option]
        if options.method not in uses:
            raise CnnVisError(
                f"--{option} is for {', '.join(uses)}; the method is {options.method}. Leave it out, "
                "or choose another --method."
            )
        parameter = uses[options.method]
        files = parameter.kind == "baselines"
        parameters[parameter.name] = [open_baseline(one) for one in value] if files else value
    return parameters


def given_hierarchy(options: argparse.Namespace) -> Any:
    """The hierarchy that was given, or None."""
    if not options.supervoxels:
        return None
    from napari_cnnvis.ucm.hierarchy import Hierarchy

    return Hierarchy.read(options.supervoxels, background=0)


def open_baseline(value: object) -> object:
    """A name or a number as it is; a file as the scan in it."""
    from napari_cnnvis.scan.files import read_volume

    return read_volume(value) if isinstance(value, str) and os.path.exists(value) else value
