"""``napari-cnnvis figure``: a picture of a map on its scan, without a screen."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from napari_cnnvis.cli.outputs import HOW, add_overwrite, given_files
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.figure.spec import AXES, BACKGROUNDS, LAYOUTS, SIDES, FigureSpec

__all__ = ["add_parser"]

_DEFAULTS = FigureSpec()


def add_parser(commands: Any) -> None:
    """Add the command."""
    figure = commands.add_parser("figure", help="draw a map on its scan, for print")
    figure.add_argument("scan", nargs="?", help="the scan: .nii, .nii.gz, .mgz, ...")
    figure.add_argument("map", nargs="?", help="the map, on the scan's grid")
    figure.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="the picture: .png, .tif, .svg or .pdf; a .json goes with it",
    )
    figure.add_argument(
        "--from",
        dest="record",
        metavar="JSON",
        help="draw the figure of this JSON again; of another scan and map if they are given, and "
        "with what the options below change",
    )
    figure.add_argument("--layout", choices=LAYOUTS, help=f"(default: {_DEFAULTS.layout})")
    figure.add_argument(
        "--at",
        dest="positions",
        type=float,
        nargs=3,
        action="append",
        metavar=("X", "Y", "Z"),
        help="slices: through this point, in mm (right, front, top); again for another row "
        "(default: the map's peak)",
    )
    figure.add_argument("--axis", choices=AXES, help=f"lightbox: (default: {_DEFAULTS.axis})")
    figure.add_argument(
        "--count", type=int, metavar="N", help=f"lightbox: slices (default: {_DEFAULTS.count})"
    )
    figure.add_argument(
        "--span", type=float, nargs=2, metavar="MM", help="lightbox: from here to there"
    )
    size = figure.add_argument_group("size")
    size.add_argument(
        "--width", dest="width_mm", type=float, metavar="MM",
        help=f"in print (default: {_DEFAULTS.width_mm:g})",
    )  # fmt: skip
    size.add_argument("--dpi", type=float, help=f"(default: {_DEFAULTS.dpi:g})")
    size.add_argument("--pixels", type=int, metavar="N", help="width in pixels, instead of --dpi")
    looks = figure.add_argument_group("looks")
    looks.add_argument("--background", choices=BACKGROUNDS)
    looks.add_argument("--title", help="'' for none (default: method, class, layer)")
    looks.add_argument(
        "--limits",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="values at the ends of the colours: 0 M, or -M M for signed maps",
    )
    looks.add_argument("--threshold", type=float, metavar="VALUE", help="draw no smaller values")
    looks.add_argument(
        "--scan-limits", type=float, nargs=2, metavar="VALUE", help="black and white"
    )
    looks.add_argument("--unit", help="below the colour bar (default: the explained score)")
    looks.add_argument("--side", choices=SIDES, help=f"of slices (default: {_DEFAULTS.side})")
    for name, what in (
        ("colour-bar", "the colour bar"),
        ("scale-bar", "the scale bar"),
        ("letters", "L, R, A, P"),
        ("smooth", "between voxels; without it each is a rectangle"),
        ("crop", "the air around the head"),
        ("head-only", "the map inside the head alone"),
    ):
        looks.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, help=what)
    add_overwrite(figure)
    figure.set_defaults(run=_figure)


def _figure(options: argparse.Namespace) -> int:
    from napari_cnnvis.figure.files import check_picture, provenance_beside, write_figure
    from napari_cnnvis.figure.record import read_figure
    from napari_cnnvis.scan.files import read_volume
    from napari_cnnvis.writing import is_same_file

    if (options.scan is None) != (options.map is None):
        raise CnnVisError("Give a scan and its map: napari-cnnvis figure scan.nii.gz map.nii.gz.")
    record = None if options.record is None else read_figure(options.record)
    if record is None and (options.scan is None or options.output is None):
        raise CnnVisError(
            "Give a scan, its map and a picture to write, such as napari-cnnvis figure scan.nii.gz "
            "map.nii.gz -o plate.png; or the JSON of a figure with --from."
        )
    if options.output is None and options.scan is not None:
        raise CnnVisError("Give a picture to write, such as -o plate.png.")
    spec = _given(options, _DEFAULTS if record is None else record.spec)
    output = record.picture if options.output is None else options.output
    again = record is not None and is_same_file(output, record.picture)
    inputs = [*given_files(options), *([] if again or record is None else [options.record])]
    output = check_picture(output, inputs, options.overwrite or again, HOW)
    if options.scan is None:
        scan, map_ = record.volumes()
        provenance = record.provenance
    else:
        scan, map_ = read_volume(options.scan), read_volume(options.map)
        provenance = provenance_beside(options.map)
    written = write_figure(scan, map_, spec, output, provenance, options.overwrite or again)
    for note in dict.fromkeys((*scan.notes, *written.notes)):
        print(f"note: {note}")
    print(f"{spec.layout}, {spec.width_mm:g} mm, {spec.pixels} pixels wide, written to {output}")
    return 0


def _given(options: argparse.Namespace, spec: FigureSpec) -> FigureSpec:
    """`spec` with what was given on the command line."""
    given = {
        name: getattr(options, name)
        for name in FigureSpec.__dataclass_fields__
        if getattr(options, name) is not None
    }
    if options.pixels is not None:
        if options.dpi is not None:
            raise CnnVisError("Give --pixels or --dpi, not both; with --width they say the same.")
        if options.pixels < 1:
            raise CnnVisError(f"{options.pixels} pixels are not possible; give 50 or more.")
        given["dpi"] = options.pixels / given.get("width_mm", spec.width_mm) * 25.4
    return replace(spec, **given)
