"""``napari-cnnvis train``: train a network on the scans that a table lists."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

from napari_cnnvis.cli.model_options import add_steps_option, given_input
from napari_cnnvis.cli.terminal import log_file, progress_with_time_left, stop_in_order
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.scan.conform import InputSpec

__all__ = ["add_parser"]

_NEEDS = {"lightning": "lightning", "sklearn": "scikit-learn"}


def add_parser(commands: Any) -> None:
    """Add the command."""
    train = commands.add_parser(
        "train",
        help="train a network on your own scans",
        description="Train by stratified, repeated k-fold cross-validation. Stopped or killed, the "
        "same command goes on; started twice, each takes folds that the other one does not have.",
    )
    train.add_argument("table", help="CSV with the columns Path, Label and, where known, Subject")
    train.add_argument(
        "--net",
        required=True,
        help="voxvgg, voxresnet, voxresnetgap, conv5_fc3, conv4_fc3, or 'module:callable(arguments)'",
    )
    train.add_argument(
        "--classes", nargs="+", metavar="NAME", help="labels in the order of the outputs"
    )
    train.add_argument(
        "--skip-other-labels", action="store_true", help="leave rows with other labels out"
    )
    train.add_argument("--folds", type=int, default=5)
    train.add_argument("--repeats", type=int, default=5)
    train.add_argument(
        "--only", nargs="+", default=[], metavar="FOLD", help="only these: repeat-1-fold-2 ..."
    )
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("-o", "--output", required=True, metavar="FOLDER", help="the results")
    recipe = train.add_argument_group("the recipe")
    recipe.add_argument(
        "--recipe",
        default="paper",
        choices=("paper", "modern"),
        help="paper: Korolev et al. 2017, the last epoch counts; modern: AdamW with one-cycle rate, "
        "LSUV, normalisation that is folded in, augmentation, early stop, calibration",
    )
    recipe.add_argument("--epochs", type=int)
    recipe.add_argument("--batch", type=int, help="scans of a step")
    recipe.add_argument("--rate", type=float, help="(peak) learning rate")
    recipe.add_argument("--validation", type=float, metavar="SHARE", help="to stop early on")
    recipe.add_argument("--patience", type=int, metavar="EPOCHS", help="before stopping early")
    recipe.add_argument("--no-augment", action="store_true", help="show the scans as they are")
    recipe.add_argument(
        "--start-from", default="", metavar="FILE", help="take what fits from this checkpoint"
    )
    recipe.add_argument(
        "--freeze", nargs="+", default=[], metavar="NAME", help="layers whose names begin so"
    )
    scans = train.add_argument_group("the input")
    scans.add_argument(
        "--shape", type=int, nargs=3, metavar="N", help="pad or crop to so many voxels"
    )
    scans.add_argument("--resize", action="store_true", help="scale to --shape instead of cropping")
    scans.add_argument(
        "--spacing", type=float, nargs=3, metavar="MM", help="resample to these voxels"
    )
    scans.add_argument("--orientation", metavar="RAS", help="where the input's axes point to")
    scans.add_argument(
        "--intensity", metavar="RULES", help="how it is scaled: max, or 'mean, clip 0 8', ..."
    )
    add_steps_option(scans)
    scans.add_argument("--cache", metavar="FOLDER", help="for the conformed scans (default: -o)")
    machine = train.add_argument_group("the machine")
    machine.add_argument(
        "--accelerator", default="auto", help="auto, cpu, gpu, ... (default: auto)"
    )
    machine.add_argument("--devices", default="1", help="how many GPUs, or auto (default: 1)")
    machine.add_argument(
        "--mixed", action="store_true", help="mixed precision: float16 on a GPU, bfloat16 on a CPU"
    )
    machine.add_argument("--workers", type=int, default=0, help="processes that read scans")
    machine.add_argument(
        "--trust", action="store_true", help="let Python code from files run (my_nets.py)"
    )
    train.set_defaults(run=_train, window=None, overlap=None)


def _train(options: argparse.Namespace) -> int:
    missing = [
        package for name, package in _NEEDS.items() if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise CnnVisError(
            f"Training needs {' and '.join(missing)}: pip install 'napari-cnnvis[train]'."
        )
    from napari_cnnvis.training.fold_run import Hardware
    from napari_cnnvis.training.recipes import make_recipe
    from napari_cnnvis.training.start_networks import NetworkPlan
    from napari_cnnvis.training.study import read_study
    from napari_cnnvis.training.train import TrainingPlan, train

    study = read_study(options.table, options.classes, options.skip_other_labels)
    given = {
        name: getattr(options, name)
        for name in ("epochs", "batch", "rate", "validation", "patience")
    }
    if options.no_augment:
        given["augment"] = False
    network = NetworkPlan(
        options.net,
        len(study.class_names),
        options.start_from,
        tuple(options.freeze),
        trust=options.trust,
    )
    recipe = make_recipe(options.recipe, network.architecture, **given)
    plan = TrainingPlan(
        study=study,
        network=network,
        recipe=recipe,
        folder=options.output,
        spec=given_input(options, InputSpec()),
        folds=options.folds,
        repeats=options.repeats,
        seed=options.seed,
        only=options.only,
        hardware=Hardware(
            options.accelerator,
            options.devices if options.devices == "auto" else int(options.devices),
            "mixed" if options.mixed else "single",
            options.workers,
        ),
        cache=options.cache,
    )
    counts = ", ".join(
        f"{study.labels.count(index)} {name}" for index, name in enumerate(study.class_names)
    )
    print(f"{len(study.scans)} scans of {len(set(study.subjects))} subjects: {counts}")
    if study.left_out:
        print(f"{study.left_out} rows of other labels are left out")
    kept = "the same command goes on from the last whole epoch"
    with stop_in_order(kept) as stop, log_file(Path(options.output, "errors.log")):
        summary = train(plan, progress_with_time_left(), stop.cancel)
    if summary is None:
        print(f"done here; other processes still work on folds in {options.output}")
        return 0
    for name, (mean, deviation) in summary.items():
        print(f"{name}: {mean:.3f} ± {deviation:.3f}")
    print(f"checkpoints, predictions, metrics and curves are in {options.output}")
    return 0
