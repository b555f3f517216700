"""``napari-cnnvis explain``: compute a map without opening a window."""

from __future__ import annotations

import argparse
from typing import Any

from napari_cnnvis.cli.method_options import (
    add_method_options,
    add_scan,
    given_hierarchy,
    given_request,
    read_scan,
)
from napari_cnnvis.cli.model_options import add_model_options, load
from napari_cnnvis.cli.outputs import add_overwrite, check_outputs
from napari_cnnvis.cli.terminal import progress, stop_in_order
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.explain.common_parameters import DISAGREEMENT

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command."""
    explain = commands.add_parser("explain", help="compute a map without opening a window")
    add_scan(explain)
    explain.add_argument(
        "--model",
        required=True,
        help="the checkpoint: .safetensors, .pt, .pth, .ckpt, .pt2 or .npz, or the folder of a MONAI "
        "bundle or ClinicaDL MAPS; 'napari-cnnvis info' says what it holds",
    )
    of_method = explain.add_argument_group("the method")
    explain.add_argument(
        "--disagreement",
        metavar="FILE",
        help="sensitivity, box: also write how much several baselines disagree",
    )
    add_model_options(explain)
    explain.add_argument(
        "-o", "--output", required=True, help="the map: .nii.gz, .nii or .mgz; a .json goes with it"
    )
    add_overwrite(explain)
    add_method_options(of_method)
    explain.set_defaults(run=_explain)


def _explain(options: argparse.Namespace) -> int:
    from napari_cnnvis.explain.attribution import check_map
    from napari_cnnvis.explain.run import explain

    check_outputs(options, [(options.output, check_map), (options.disagreement, check_map)])
    scan = read_scan(options)
    model = load(options.model, options)
    predictions = model.predict(scan)
    request = given_request(options, model, predictions)
    if options.disagreement and len(getattr(request.how, "baseline", ())) < 2:
        raise CnnVisError(
            "--disagreement needs sensitivity or box with two or more values of --baseline."
        )
    hierarchy = given_hierarchy(options)
    with stop_in_order() as stop:
        attribution = explain(
            model, scan, request, hierarchy=hierarchy, progress=progress(), cancel=stop.cancel
        )
        attribution.save(options.output, options.overwrite)
        so_far = " so far, marked partial," if attribution.partial else ""
        stop.kept = f"the map{so_far} is in {options.output}"
        if options.disagreement:
            from napari_cnnvis.explain.remap import remapped

            how = request.how.replaced(shown=DISAGREEMENT)
            apart = remapped(attribution, how, request.target)
            apart.save(options.disagreement, options.overwrite)
    classes = ", ".join(f"{name} {value}" for name, value in model.described(predictions))
    print(f"{model.architecture} on {model.device}: {classes}")
    notes = (*(n for volume in scan for n in volume.notes), *model.notes, *attribution.notes)
    for note in dict.fromkeys(notes):
        print(f"note: {note}")
    low, high = attribution.data.min(), attribution.data.max()
    print(f"{attribution.name}: {low:.4g} to {high:.4g}, written to {options.output}")
    return 0
