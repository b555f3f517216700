"""``napari-cnnvis supervoxels``: segment a scan into nested supervoxels."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from napari_cnnvis.cli.method_options import add_head, with_given_head
from napari_cnnvis.cli.outputs import add_overwrite, check_outputs
from napari_cnnvis.cli.terminal import progress, stop_in_order
from napari_cnnvis.ucm.options import BOUNDARIES, FINEST

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command."""
    supervoxels = commands.add_parser("supervoxels", help="segment a scan into nested supervoxels")
    supervoxels.add_argument("scan", help="the scan: .nii, .nii.gz, .mgz, ...")
    add_head(supervoxels)
    supervoxels.add_argument(
        "--boundary",
        choices=BOUNDARIES,
        default=BOUNDARIES[0],
        help="gradient takes seconds, gpb (globalised) longer (default: gradient)",
    )
    supervoxels.add_argument(
        "--regions",
        type=int,
        nargs="+",
        help="numbers of regions of the levels (default: 8 levels from "
        f"{FINEST} to 12, even in their logarithm)",
    )
    supervoxels.add_argument("--contours", metavar="FILE", help="also write the contour map")
    supervoxels.add_argument(
        "-o",
        "--output",
        required=True,
        help="the whole hierarchy: .npz; or its levels: .nii.gz or .nii (4D) or .npy",
    )
    add_overwrite(supervoxels)
    supervoxels.set_defaults(run=_supervoxels)


def _supervoxels(options: argparse.Namespace) -> int:
    from napari_cnnvis.scan.files import check_writable, read_volume, write_volume
    from napari_cnnvis.ucm.build import build_hierarchy
    from napari_cnnvis.ucm.files import check_levels, write_levels
    from napari_cnnvis.writing import check_output

    whole = options.output.lower().endswith(".npz")
    outputs = [(options.output, check_output if whole else check_levels)]
    check_outputs(options, [*outputs, (options.contours, check_writable)])
    volume = with_given_head(read_volume(options.scan), options)
    with stop_in_order() as stop:
        hierarchy = build_hierarchy(
            volume,
            options.boundary,
            counts=options.regions,
            cancel=stop.cancel,
            progress=progress(),
        )
        if whole:
            hierarchy.save(options.output, options.overwrite)
        else:
            write_levels(hierarchy, options.output, volume.affine, options.overwrite)
        stop.kept = f"the supervoxels are in {options.output}"
        if options.contours:
            contours = replace(volume, data=hierarchy.contour_map())
            write_volume(contours, options.contours, options.overwrite)
    counts = ", ".join(str(len(set(level.tolist()))) for level in hierarchy.levels)
    print(
        f"{hierarchy.n_leaves} supervoxels, levels of {counts} regions, written to {options.output}"
    )
    for note in volume.notes:
        print(f"note: {note}")
    return 0
