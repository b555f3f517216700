"""The options that say what a checkpoint is and what it expects of its input."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from napari_cnnvis.errors import VolumeError, shortened
from napari_cnnvis.models.output_kinds import OUTPUT_KINDS
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.steps.text import as_line

__all__ = ["add_model_options", "add_steps_option", "given_input", "load"]


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add them to a command."""
    group = parser.add_argument_group("the model", "only what the checkpoint does not say itself")
    group.add_argument(
        "--arch",
        metavar="NETWORK",
        help="the network: 'module:callable(arguments)' such as 'monai.networks.nets:resnet18("
        "spatial_dims=3, n_input_channels=1, num_classes=2)', or 'my_nets.py:MyNet()'",
    )
    group.add_argument(
        "--trust",
        action="store_true",
        help="let Python code from files run: pickled networks, .py files",
    )
    group.add_argument(
        "--more-files",
        nargs="+",
        default=(),
        metavar="FILE",
        help="other files with weights of the same network, such as its head",
    )
    group.add_argument("--classes", nargs="+", metavar="NAME", help="names of the outputs")
    group.add_argument(
        "--outputs",
        choices=tuple(OUTPUT_KINDS),
        help="one of several classes, each present or absent, or values",
    )
    group.add_argument(
        "--scores",
        metavar="NAME",
        help="which of the network's outputs is the scores: logits, 0, 1",
    )
    group.add_argument(
        "--extra",
        nargs="+",
        metavar="NAME=NUMBER",
        help="what the network takes besides the scan, such as age=71 sex=1",
    )
    group.add_argument(
        "--shape", type=int, nargs=3, metavar="N", help="pad or crop scans to so many voxels"
    )
    group.add_argument(
        "--resize", action="store_true", help="scale scans to --shape instead of cropping"
    )
    group.add_argument(
        "--window", type=int, nargs=3, metavar="N", help="run on windows all over the scan"
    )
    group.add_argument(
        "--overlap", type=float, metavar="SHARE", help="of neighbouring windows (default: 0.5)"
    )
    group.add_argument(
        "--spacing", type=float, nargs=3, metavar="MM", help="resample scans to these voxels"
    )
    group.add_argument("--orientation", metavar="RAS", help="where the input's axes point to")
    group.add_argument(
        "--intensity", metavar="RULES", help="how it is scaled: max, or 'mean, clip 0 8', ..."
    )
    add_steps_option(group)
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")


def given_input(options: argparse.Namespace, stored: InputSpec) -> InputSpec:
    """`stored` with what was given on the command line."""
    names = ("shape", "window", "overlap", "spacing", "orientation", "intensity")
    given: dict[str, Any] = {n: v for n in names if (v := getattr(options, n)) is not None}
    if options.resize:
        given["resize"] = True
    if options.input_steps is not None:
        cleared: dict[str, Any] = {"spacing": None, "orientation": None, "intensity": None}
        given = {**cleared, "shape": None, "resize": False, **given, "steps": options.input_steps}
    if "window" in given:
        given.setdefault("shape", None)
    elif "shape" in given:
        given["window"] = None
    elif stored.steps and given.keys() & {"spacing", "orientation", "resize"}:
        raise VolumeError(
            f"The checkpoint's steps ({shortened(as_line(stored.steps), 100)}) say orientation, voxel "
            "size and scaling already. Change them with --input-steps, or leave them out with --input-steps ''."
        )
    return replace(stored, **given)


def add_steps_option(group: Any) -> None:
    """Add the option for preparation steps."""
    group.add_argument(
        "--input-steps",
        metavar="STEPS",
        help="MONAI's transforms, done first: \"Orientation('RAS'), Spacing((1, 1, 1))\"; '' for none",
    )


def load(path: str, options: argparse.Namespace) -> Any:
    """The model, with what was given on the command line."""
    from napari_cnnvis.models.checkpoint import open_checkpoint
    from napari_cnnvis.models.further_inputs import parsed_extra

    opened = open_checkpoint([path, *options.more_files], options.arch, options.trust)
    spec = given_input(options, opened.input_spec())
    extra = parsed_extra(", ".join(options.extra or ()))
    return opened.model(
        options.device, options.classes, spec, options.outputs, options.scores, extra
    )
