"""``napari-cnnvis trust``: is a map true?"""

from __future__ import annotations

import argparse
import os
from typing import Any

from napari_cnnvis.cli.model_options import add_model_options, load
from napari_cnnvis.cli.terminal import interrupt_cancels, progress
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.explain.options import ALIGNMENTS, BASELINES, METHODS, SCORES, ExplainRequest

__all__ = ["add_parser"]

_DEFAULTS = ExplainRequest("grad-cam", 0)
#: names of `evaluate.trust.TESTS`, which would import torch
_TESTS = ("response", "edges", "contrast", "randomisation", "deletion")


def add_parser(commands: Any) -> None:
    """Add the command."""
    trust = commands.add_parser("trust", help="test whether a map shows what the network uses")
    trust.add_argument("scan", help="the scan: .nii, .nii.gz, .mgz, ...")
    trust.add_argument(
        "--channel",
        action="append",
        default=[],
        metavar="SCAN",
        help="the next input channel, on the same grid; once for each of them",
    )
    trust.add_argument("--model", required=True, help="the checkpoint")
    trust.add_argument(
        "--map",
        help="a saved map of this scan, with its .json; instead of --method and its options",
    )
    which = trust.add_argument_group("the map, if it is to be computed")
    which.add_argument("--method", choices=METHODS, default=_DEFAULTS.method)
    which.add_argument(
        "--target", help="class to explain, by name or number (default: the predicted one)"
    )
    which.add_argument("--layer", help="Grad-CAM's target layer (default: the recommended one)")
    which.add_argument(
        "--signed", action="store_true", help="Grad-CAM without ReLU: keep what speaks against"
    )
    which.add_argument("--score", choices=SCORES, help="the number that is explained")
    which.add_argument("--alignment", choices=ALIGNMENTS, default=_DEFAULTS.alignment)
    which.add_argument("--regions", type=int, help="sensitivity: regions on the finest level")
    which.add_argument(
        "--supervoxels",
        nargs="+",
        metavar="FILE",
        help="sensitivity: a hierarchy, as for 'explain'",
    )
    which.add_argument("--size", type=int, default=_DEFAULTS.size, help="box: voxels of a side")
    which.add_argument(
        "--stride", type=int, default=_DEFAULTS.stride, help="box: voxels between boxes"
    )
    how = trust.add_argument_group("the tests")
    how.add_argument(
        "--tests", nargs="+", choices=_TESTS, default=list(_TESTS), help="(default: all)"
    )
    how.add_argument(
        "--baseline",
        help="what deleted voxels (and those of sensitivity and boxes) become: "
        f"{', '.join(BASELINES)}, a number, or a scan on the same grid (default: blur)",
    )
    how.add_argument("--steps", type=int, metavar="N", help="points of a deletion curve")
    how.add_argument("--orders", type=int, metavar="N", help="random orders beside the map's")
    how.add_argument("--stages", type=int, metavar="N", help="groups of layers made random")
    how.add_argument("--seed", type=int, default=0)
    add_model_options(trust)
    trust.add_argument(
        "-o",
        "--output",
        metavar="FOLDER",
        required=True,
        help="gets trust.json, curves.csv, trust.png and trust.svg",
    )
    trust.set_defaults(run=_trust)


def _trust(options: argparse.Namespace) -> int:
    from napari_cnnvis.evaluate.trust import trust_report
    from napari_cnnvis.explain.attribution import Attribution
    from napari_cnnvis.volume import read_volume

    if options.supervoxels and (options.map or options.method != "sensitivity"):
        raise CnnVisError("--supervoxels needs --method sensitivity.")
    if os.path.exists(options.output) and not os.path.isdir(options.output):
        raise CnnVisError(f"{options.output} is a file; give a folder for -o.")
    volume = read_volume(options.scan)
    scan = (volume, *(read_volume(path) for path in options.channel))
    model = load(options.model, options)
    baseline = options.baseline
    if baseline is not None and os.path.exists(baseline):
        baseline = read_volume(baseline)
    what: ExplainRequest | Attribution
    if options.map:
        what = Attribution.load(options.map)
    else:
        what = _request(options, model, scan, baseline)
    hierarchy = None
    if options.supervoxels:
        from napari_cnnvis.ucm.hierarchy import Hierarchy

        hierarchy = Hierarchy.read(options.supervoxels, background=0)
    with interrupt_cancels("; the tests so far are kept") as cancel:
        report = trust_report(
            model,
            scan,
            what,
            hierarchy=hierarchy,
            tests=options.tests,
            steps=options.steps,
            random_orders=options.orders,
            stages=options.stages,
            baseline=baseline,
            seed=options.seed,
            progress=progress(),
            cancel=cancel,
        )
    report.save(options.output)
    marks = {True: "+", False: "-", None: "?"}
    for finding in report.findings:
        print(f"{marks[finding.passed]} {finding.title}: {finding.sentence}")
    for note in (*volume.notes, *model.notes, *report.notes):
        print(f"note: {note}")
    if report.partial:
        print("note: stopped before all tests were done")
    print(f"{report.attribution.name}: {report.verdict}")
    print(f"written to {options.output} in {report.seconds:.0f} s")
    return 0


def _request(options: argparse.Namespace, model: Any, scan: Any, baseline: Any) -> ExplainRequest:
    target = options.target
    if target is None:
        outputs = model.outputs
        target = int(model.predict(scan).argmax()) if outputs.has_probabilities else 1
    elif target not in model.class_names and target.isdigit():
        target = int(target)
    return ExplainRequest(
        method=options.method,
        target=target,
        layer=options.layer,
        relu=not options.signed,
        score=options.score,
        alignment=options.alignment,
        baseline=_DEFAULTS.baseline if baseline is None else baseline,
        finest=options.regions,
        size=options.size,
        stride=options.stride,
    )
