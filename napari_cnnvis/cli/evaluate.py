"""``napari-cnnvis evaluate``: do the maps of a cohort lie where they should?"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_cnnvis.cli.method_options import open_baseline
from napari_cnnvis.cli.model_options import add_model_options, load
from napari_cnnvis.cli.outputs import given_files
from napari_cnnvis.cli.terminal import log_file, progress, stop_in_order
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.evaluate.benchmark.options import BENCHMARKED, BenchmarkOptions, parse_region
from napari_cnnvis.explain.common_parameters import ALIGNMENTS, JOINS, SCORES
from napari_cnnvis.explain.parameter import BASELINES

__all__ = ["add_parser"]

_DEFAULTS = BenchmarkOptions()


def add_parser(commands: Any) -> None:
    """Add the command."""
    evaluate = commands.add_parser(
        "evaluate", help="score maps of a cohort against regions that are known to matter"
    )
    evaluate.add_argument(
        "table",
        help="CSV with the columns Path (the scan) and Truth (a mask on its grid) and, where known, "
        "Rois (a label volume), Inside (a mask of the brain; default: where the scan is above 0), "
        "Name, Subject and Label; rows without a Truth are left out",
    )
    evaluate.add_argument(
        "--model",
        action="append",
        required=True,
        metavar="[NAME=]FILE",
        help="a checkpoint, and what it is called in tables (default: the file's name); once for "
        "each network",
    )
    evaluate.add_argument("--target", required=True, help="class to explain, by name or number")
    evaluate.add_argument(
        "--methods",
        nargs="+",
        choices=BENCHMARKED,
        default=_DEFAULTS.methods,
        metavar="METHOD",
        help=f"of {', '.join(BENCHMARKED)} (default: all)",
    )
    evaluate.add_argument(
        "--roi",
        action="append",
        default=[],
        metavar="NAME=LABELS",
        help="a region beside the truth, by labels of the column Rois: hippocampus=17,53 or "
        "cortex=1000-1035,2000-2035; once for each region",
    )
    evaluate.add_argument(
        "-o", "--output", required=True, help="folder for the tables and pictures; started again "
        "with the same folder, it goes on where it was",
    )  # fmt: skip
    evaluate.add_argument("--limit", type=int, metavar="N", help="only the first N scans")
    evaluate.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        metavar="MM",
        help="how far from a region a map's maximum still hits it (default: 0)",
    )
    _add_settings(evaluate)
    add_model_options(evaluate)
    evaluate.set_defaults(run=_evaluate)


def _add_settings(evaluate: argparse.ArgumentParser) -> None:
    group = evaluate.add_argument_group("the methods", "of several values each is scored")
    group.add_argument(
        "--levels",
        type=int,
        nargs="+",
        default=_DEFAULTS.levels,
        metavar="N",
        help="sensitivity, slic: regions of the levels "
        f"(default: {' '.join(map(str, _DEFAULTS.levels))})",
    )
    group.add_argument(
        "--margin",
        type=float,
        nargs="+",
        default=_DEFAULTS.margins,
        metavar="MM",
        help="sensitivity, slic: how far regions grow before they are occluded (default: "
        f"{_DEFAULTS.margins[0]:g})",
    )
    group.add_argument(
        "--baseline",
        nargs="+",
        default=_DEFAULTS.baselines,
        help=f"box, sensitivity, slic: what voxels become: {', '.join(BASELINES)}, a number, or a "
        "scan on the same grid (default: blur)",
    )
    group.add_argument("--join", nargs="+", choices=JOINS, default=_DEFAULTS.joins)
    group.add_argument("--score", nargs="+", choices=SCORES, default=_DEFAULTS.scores)
    group.add_argument(
        "--quantity",
        nargs="+",
        choices=("drop", "absolute"),
        default=_DEFAULTS.quantities,
        help="box, sensitivity, slic: the drop, or its size",
    )
    group.add_argument(
        "--smooth",
        type=float,
        nargs="+",
        default=_DEFAULTS.smooths,
        metavar="MM",
        help="box, sensitivity, slic: smooth maps by so much, full width at half maximum (default: 0)",
    )
    group.add_argument("--size", type=int, default=_DEFAULTS.size, help="box: voxels of a side")
    group.add_argument(
        "--stride",
        type=int,
        default=_DEFAULTS.stride,
        help=f"box: voxels between boxes (default: {_DEFAULTS.stride})",
    )
    group.add_argument(
        "--alignment",
        nargs="+",
        choices=ALIGNMENTS,
        default=_DEFAULTS.alignments,
        help="CAM, Grad-CAM and its variants: where a layer's cells are",
    )
    group.add_argument(
        "--layers",
        nargs="+",
        default=(),
        help="Grad-CAM and its variants: only these (default: all)",
    )


def _evaluate(options: argparse.Namespace) -> int:
    from napari_cnnvis.evaluate.benchmark.figure import write_figures
    from napari_cnnvis.evaluate.benchmark.report import WRITTEN, write_report
    from napari_cnnvis.evaluate.benchmark.run import run_benchmark
    from napari_cnnvis.evaluate.benchmark.summary import summarise
    from napari_cnnvis.evaluate.benchmark.table import read_benchmark_table
    from napari_cnnvis.writing import check_folder

    if options.limit is not None and options.limit < 1:
        raise CnnVisError(f"--limit {options.limit} leaves no scan; give 1 or more.")
    rois = _distinct([parse_region(text) for text in options.roi], "regions")
    what = BenchmarkOptions(
        options.methods,
        options.size,
        options.stride,
        options.levels,
        options.margin,
        [open_baseline(value) for value in options.baseline],
        options.join,
        options.score,
        options.quantity,
        options.smooth,
        options.alignment,
        options.layers,
    )
    folder = check_folder(
        options.output, WRITTEN, given_files(options), Path(options.output, "rows").is_dir()
    )
    scans, left_out = read_benchmark_table(options.table, rois, options.limit)
    models = {name: load(path, options) for name, path in _named(options.model).items()}
    target = options.target
    if target.isdigit() and not any(target in model.class_names for model in models.values()):
        target = int(target)
    kept = f"what was scored is in {folder}; the same command goes on"
    with stop_in_order(kept) as stop, log_file(folder / "errors.log"):
        result = run_benchmark(
            *(models, scans, target, folder, what, rois, options.tolerance, progress(), stop.cancel)
        )
        for problem in result.problems:
            print(f"not scored: {problem}")
        if result.rows:
            summary = summarise(result.rows)
            write_report(summary, folder)
            write_figures(summary, folder)
    if left_out:
        print(f"note: {left_out} row(s) without a Truth were left out")
    print(f"{len(result.rows)} rows of {len(scans)} scan(s), written to {folder}")
    return 1 if result.problems else 0


def _named(given: Sequence[str]) -> dict[str, str]:
    """Files by the name that the network has in tables: the file's, if nothing else is said."""
    pairs = []
    for text in given:
        name, sign, path = text.partition("=")
        named = bool(sign and name and not Path(text).exists())
        pairs.append((name, path) if named else (Path(text).stem, text))
    return _distinct(pairs, "networks")


def _distinct(pairs: Sequence[tuple[str, Any]], what: str) -> dict[str, Any]:
    """The pairs by name.

    Raises
    ------
    CnnVisError
        If two have the same name.
    """
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1:
            raise CnnVisError(f"Two {what} are called '{name}'; give each a name of its own.")
    return dict(pairs)
