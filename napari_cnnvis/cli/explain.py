"""``napari-cnnvis explain``: compute a map without opening a window."""

from __future__ import annotations

import argparse
import os
from typing import Any

from napari_cnnvis.cli.model_options import add_model_options, load
from napari_cnnvis.cli.terminal import interrupt_cancels, progress
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.explain.options import (
    ALIGNMENTS,
    BASELINES,
    DISAGREEMENT,
    JOINS,
    METHODS,
    OCCLUDING,
    QUANTITIES,
    SCORES,
    ExplainRequest,
)
from napari_cnnvis.ucm.options import FINEST

__all__ = ["add_parser"]

_DEFAULTS = ExplainRequest("grad-cam", 0)


def add_parser(commands: Any) -> None:
    """Add the command."""
    explain = commands.add_parser("explain", help="compute a map without opening a window")
    explain.add_argument("scan", help="the scan: .nii, .nii.gz, .mgz, ...")
    explain.add_argument(
        "--channel",
        action="append",
        default=[],
        metavar="SCAN",
        help="the next input channel, on the same grid; once for each of them",
    )
    explain.add_argument(
        "--model",
        required=True,
        help="the checkpoint: .safetensors, .pt, .pth, .ckpt, .pt2 or .npz, or the folder of a MONAI "
        "bundle or ClinicaDL MAPS; 'napari-cnnvis info' says what it holds",
    )
    explain.add_argument("--method", choices=METHODS, default=_DEFAULTS.method)
    explain.add_argument(
        "--target", help="class to explain, by name or number (default: the predicted one)"
    )
    explain.add_argument("--layer", help="Grad-CAM's target layer (default: the recommended one)")
    explain.add_argument(
        "--signed", action="store_true", help="Grad-CAM without ReLU: keep what speaks against"
    )
    explain.add_argument("--score", choices=SCORES, help="the number that is explained")
    explain.add_argument("--alignment", choices=ALIGNMENTS, default=_DEFAULTS.alignment)
    explain.add_argument(
        "--baseline",
        nargs="+",
        default=[_DEFAULTS.baseline],
        help="sensitivity, box: what voxels become: "
        f"{', '.join(BASELINES)}, a number, or a scan on the same grid; several: their mean",
    )
    explain.add_argument(
        "--disagreement",
        metavar="FILE",
        help="sensitivity, box: also write how far several baselines lie apart",
    )
    explain.add_argument("--join", choices=JOINS, default=_DEFAULTS.join, help="of the levels")
    explain.add_argument(
        "--margin",
        type=float,
        metavar="MM",
        default=_DEFAULTS.margin,
        help="sensitivity: how far regions grow before they are occluded (default: 0)",
    )
    explain.add_argument(
        "--smooth",
        type=float,
        metavar="MM",
        default=_DEFAULTS.smooth,
        help="sensitivity, box: smooth the map by so much (full width at half maximum)",
    )
    explain.add_argument("--size", type=int, default=_DEFAULTS.size, help="box: voxels of a side")
    explain.add_argument(
        "--stride", type=int, default=_DEFAULTS.stride, help="box: voxels between boxes"
    )
    explain.add_argument(
        "--time-limit", type=float, metavar="SECONDS", help="stop scoring with the map so far"
    )
    explain.add_argument(
        "--half", action="store_true", help="score regions in float16 (bfloat16 on a CPU)"
    )
    explain.add_argument("--quantity", choices=QUANTITIES, default=_DEFAULTS.quantity)
    explain.add_argument(
        "--regions", type=int, help=f"sensitivity: regions on the finest level (default: {FINEST})"
    )
    explain.add_argument(
        "--supervoxels",
        nargs="+",
        metavar="FILE",
        help="sensitivity: a hierarchy written by 'supervoxels', nested label volumes, fine to "
        "coarse, or an atlas (0 = background); default: built from the scan",
    )
    add_model_options(explain)
    explain.add_argument(
        "-o", "--output", required=True, help="the map: .nii.gz, .nii or .mgz; a .json goes with it"
    )
    explain.set_defaults(run=_explain)


def _explain(options: argparse.Namespace) -> int:
    from napari_cnnvis.explain.request import explain
    from napari_cnnvis.volume import check_writable, read_volume

    for path in filter(None, (options.output, options.disagreement)):
        check_writable(path)
    volume = read_volume(options.scan)
    scan = (volume, *(read_volume(path) for path in options.channel))
    model = load(options.model, options)
    predictions = model.predict(scan)
    target = options.target
    if target is None:
        target = int(predictions.argmax()) if model.outputs.has_probabilities else 1
    elif target not in model.class_names and target.isdigit():
        target = int(target)
    request = ExplainRequest(
        method=options.method,
        target=target,
        layer=options.layer,
        relu=not options.signed,
        score=options.score,
        alignment=options.alignment,
        baseline=[_baseline(value) for value in options.baseline],
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
    if options.disagreement and (request.method not in OCCLUDING or len(request.baseline) < 2):
        raise CnnVisError(
            "--disagreement needs sensitivity or box with two or more values of --baseline."
        )
    if options.supervoxels and request.method != "sensitivity":
        raise CnnVisError("--supervoxels needs --method sensitivity.")
    hierarchy = None
    if options.supervoxels:
        from napari_cnnvis.ucm.hierarchy import Hierarchy

        hierarchy = Hierarchy.read(options.supervoxels, background=0)
    if request.layer == "all":
        raise CnnVisError("Choose one layer for --layer; a file holds one map.")
    with interrupt_cancels("; the map so far is kept") as cancel:
        attribution = explain(model, scan, request, hierarchy, progress(), cancel)
    attribution.save(options.output)
    if options.disagreement:
        from napari_cnnvis.explain.remap import remap

        how = request.quantity, request.score, DISAGREEMENT, request.join
        remap(attribution, target, *how, smooth=request.smooth).save(options.disagreement)
    classes = ", ".join(f"{name} {value}" for name, value in model.described(predictions))
    print(f"{model.architecture} on {model.device}: {classes}")
    for note in (*volume.notes, *model.notes, *attribution.notes):
        print(f"note: {note}")
    low, high = attribution.data.min(), attribution.data.max()
    print(f"{attribution.name}: {low:.4g} to {high:.4g}, written to {options.output}")
    return 0


def _baseline(value: str) -> object:
    """A name or a number as it is; a file as the scan in it."""
    from napari_cnnvis.volume import read_volume

    return read_volume(value) if os.path.exists(value) else value
