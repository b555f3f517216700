"""``napari-cnnvis trust``: is a map true?"""

from __future__ import annotations

import argparse
from typing import Any

from napari_cnnvis.cli.method_options import (
    add_method_options,
    add_scan,
    given_hierarchy,
    given_request,
    open_baseline,
    read_scan,
)
from napari_cnnvis.cli.model_options import add_model_options, load
from napari_cnnvis.cli.outputs import given_files
from napari_cnnvis.cli.terminal import progress, stop_in_order
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.evaluate.trust.questions import TRUST_TESTS
from napari_cnnvis.explain.parameter import BASELINES
from napari_cnnvis.explain.request import ExplainRequest

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command."""
    trust = commands.add_parser("trust", help="test whether a map shows what the network uses")
    add_scan(trust)
    trust.add_argument("--model", required=True, help="the checkpoint")
    trust.add_argument(
        "--map",
        help="a saved map of this scan, with its .json; instead of --method and its options",
    )
    of_map = trust.add_argument_group("the map, if it is to be computed")
    how = trust.add_argument_group("the tests")
    how.add_argument(
        "--tests",
        nargs="+",
        choices=tuple(TRUST_TESTS),
        default=list(TRUST_TESTS),
        help="(default: all)",
    )
    how.add_argument(
        "--deleted-to",
        metavar="BASELINE",
        help="what deleted voxels become: "
        f"{', '.join(BASELINES)}, a number, or a scan on the same grid (default: the map's, or blur)",
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
    add_method_options(of_map)
    trust.set_defaults(run=_trust)


def _trust(options: argparse.Namespace) -> int:
    from napari_cnnvis.evaluate.trust.files import check_report
    from napari_cnnvis.evaluate.trust.report import trust_report
    from napari_cnnvis.explain.attribution import Attribution

    if options.supervoxels and options.map:
        raise CnnVisError("--supervoxels needs --method sensitivity, not --map.")
    check_report(options.output, given_files(options))
    scan = read_scan(options)
    model = load(options.model, options)
    what: ExplainRequest | Attribution
    if options.map:
        what = Attribution.load(options.map)
    else:
        what = given_request(options, model, model.predict(scan))
    hierarchy = given_hierarchy(options)
    baseline = None if options.deleted_to is None else open_baseline(options.deleted_to)
    with stop_in_order() as stop:
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
            cancel=stop.cancel,
        )
        report.save(options.output)
        so_far = " so far" if report.partial else ""
        stop.kept = f"the tests{so_far} are in {options.output}"
    marks = {True: "+", False: "-", None: "?"}
    for finding in report.findings:
        print(f"{marks[finding.passed]} {finding.title}: {finding.sentence}")
    known = (*(n for volume in scan for n in volume.notes), *model.notes, *report.notes)
    for note in dict.fromkeys((*known, *report.attribution.notes)):
        print(f"note: {note}")
    print(f"{report.attribution.name}: {report.verdict}")
    print(f"written to {options.output} in {report.seconds:.0f} s")
    return 0
