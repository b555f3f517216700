"""``napari-cnnvis info``: what a checkpoint holds, and whether it can be used."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from napari_cnnvis.cli.model_options import add_model_options, given_input

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command."""
    info = commands.add_parser(
        "info", help="say what a checkpoint holds and what it can be used for"
    )
    info.add_argument(
        "checkpoint", help="a file, or the folder of a MONAI bundle or ClinicaDL MAPS"
    )
    info.add_argument("--scan", help="estimate memory and time for this scan")
    info.add_argument("--layers", action="store_true", help="list every target layer")
    info.add_argument("--weights", action="store_true", help="list the file's weights")
    info.add_argument("--json", action="store_true", help="print everything as JSON")
    add_model_options(info)
    info.set_defaults(run=_info)


def _info(options: argparse.Namespace) -> int:
    from napari_cnnvis.models.doctor import examine_checkpoint

    shape, notes = None, ()
    if options.scan:
        from napari_cnnvis.scan.files import read_volume

        scan = read_volume(options.scan)
        shape, notes = scan.shape, scan.notes
    report = examine_checkpoint(
        [options.checkpoint, *options.more_files],
        options.arch,
        options.trust,
        shape,
        options.device,
        lambda stored: given_input(options, stored),
        options.outputs,
        options.classes,
    )
    if options.json:
        print(report.to_json())
    else:
        print(report)
        for name, shape in report.tensors.items() if options.weights else ():
            print(f"  {name}: {' x '.join(map(str, shape)) or 'a number'}")
        for layer in report.layers if options.layers else ():
            cells = " x ".join(map(str, layer.shape))
            star = "  (recommended)" if layer.name == report.recommended else ""
            print(f"  {layer.name}: {layer.channels} x {cells}{star}")
    for note in notes:
        print(f"note: {note}", file=sys.stderr if options.json else sys.stdout)
    return 0 if report.usable else 2
