"""The options that say which map to compute, and the request that follows from them."""

from __future__ import annotations

import argparse
import os
from typing import Any

from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.explain.request import (
    ALIGNMENTS,
    BASELINES,
    JOINS,
    METHODS,
    QUANTITIES,
    SCORES,
    ExplainRequest,
)
from napari_cnnvis.ucm.options import FINEST

__all__ = [
    "add_method_options",
    "add_scan",
    "given_hierarchy",
    "given_request",
    "open_baseline",
    "read_scan",
]

_DEFAULTS = ExplainRequest("grad-cam", 0)


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


def read_scan(options: argparse.Namespace) -> tuple[Any, ...]:
    """The scan and its further channels."""
    from napari_cnnvis.scan.files import read_volume

    return tuple(read_volume(path) for path in (options.scan, *options.channel))


def add_method_options(group: Any) -> None:
    """Add them to a command or to a group of its options."""
    group.add_argument("--method", choices=METHODS, default=_DEFAULTS.method)
    group.add_argument(
        "--target", help="class to explain, by name or number (default: the predicted one)"
    )
    group.add_argument("--layer", help="Grad-CAM's target layer (default: the recommended one)")
    group.add_argument(
        "--signed", action="store_true", help="Grad-CAM without ReLU: keep what speaks against"
    )
    group.add_argument("--score", choices=SCORES, help="the number that is explained")
    group.add_argument("--alignment", choices=ALIGNMENTS, default=_DEFAULTS.alignment)
    group.add_argument(
        "--baseline",
        nargs="+",
        default=[_DEFAULTS.baseline],
        help="sensitivity, box: what voxels become: "
        f"{', '.join(BASELINES)}, a number, or a scan on the same grid; several: their mean",
    )
    group.add_argument(
        "--quantity",
        choices=QUANTITIES,
        default=_DEFAULTS.quantity,
        help="sensitivity, box: how far the score drops, the size of that, or what remains",
    )
    group.add_argument("--join", choices=JOINS, default=_DEFAULTS.join, help="of the levels")
    group.add_argument(
        "--margin",
        type=float,
        metavar="MM",
        default=_DEFAULTS.margin,
        help="sensitivity: how far regions grow before they are occluded (default: 0)",
    )
    group.add_argument(
        "--smooth",
        type=float,
        metavar="MM",
        default=_DEFAULTS.smooth,
        help="sensitivity, box: smooth the map by so much (full width at half maximum)",
    )
    group.add_argument("--size", type=int, default=_DEFAULTS.size, help="box: voxels of a side")
    group.add_argument(
        "--stride", type=int, default=_DEFAULTS.stride, help="box: voxels between boxes"
    )
    group.add_argument(
        "--time-limit", type=float, metavar="SECONDS", help="stop scoring with the map so far"
    )
    group.add_argument(
        "--half", action="store_true", help="score regions in float16 (bfloat16 on a CPU)"
    )
    group.add_argument(
        "--regions", type=int, help=f"sensitivity: regions on the finest level (default: {FINEST})"
    )
    group.add_argument(
        "--supervoxels",
        nargs="+",
        metavar="FILE",
        help="sensitivity: a hierarchy written by 'supervoxels', nested label volumes, fine to "
        "coarse, or an atlas (0 = background); default: built from the scan",
    )


def given_request(options: argparse.Namespace, model: Any, predictions: Any) -> ExplainRequest:
    """What the options ask for; `predictions` are the model's for the scan.

    Raises
    ------
    CnnVisError
        If options do not go together.
    """
    if options.supervoxels and options.method != "sensitivity":
        raise CnnVisError("--supervoxels needs --method sensitivity.")
    if options.layer == "all":
        raise CnnVisError("Choose one layer for --layer; a file holds one map.")
    target = options.target
    if target is None:
        target = int(predictions.argmax()) if model.outputs.has_probabilities else 1
    elif target not in model.class_names and target.isdigit():
        target = int(target)
    return ExplainRequest(
        method=options.method,
        target=target,
        layer=options.layer,
        relu=not options.signed,
        score=options.score,
        alignment=options.alignment,
        baseline=[open_baseline(value) for value in options.baseline],
        quantity=options.quantity,
        finest=options.regions,
        join=options.join,
        margin=options.margin,
        smooth=options.smooth,
        size=options.size,
        stride=options.stride,
        time_budget=options.time_limit,
        precision="half" if options.half else "single",
    )


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
