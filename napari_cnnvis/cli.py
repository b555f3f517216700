"""The command ``napari-cnnvis``."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

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
from napari_cnnvis.ucm.options import BOUNDARIES, FINEST

__all__ = ["main"]

_DEFAULTS = ExplainRequest("grad-cam", 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status (0, or 2 with one plain sentence on stderr)."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except CnnVisError as exc:
        print(f"napari-cnnvis: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("napari-cnnvis: stopped.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="napari-cnnvis", description="See in 3D where a CNN looks in a brain scan."
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    demo = commands.add_parser("demo", help="open the viewer with a sample scan, network and map")
    demo.add_argument(
        "--screenshot",
        metavar="PNG",
        help="render the map in 3D into this file and quit; needs no screen if xvfb is installed",
    )
    demo.set_defaults(run=_demo)

    explain = commands.add_parser("explain", help="compute a map without opening a window")
    explain.add_argument("scan", help="the scan: .nii, .nii.gz, .mgz, ...")
    explain.add_argument(
        "--model", required=True, help="the checkpoint: .safetensors, .pt, .pth, .ckpt or .npz"
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
    explain.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")
    explain.add_argument(
        "--trust", action="store_true", help="load a checkpoint that runs Python code on loading"
    )
    explain.add_argument(
        "-o", "--output", required=True, help="the map: .nii.gz, .nii or .mgz; a .json goes with it"
    )
    explain.set_defaults(run=_explain)

    supervoxels = commands.add_parser("supervoxels", help="segment a scan into nested supervoxels")
    supervoxels.add_argument("scan", help="the scan: .nii, .nii.gz, .mgz, ...")
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
    supervoxels.set_defaults(run=_supervoxels)
    return parser


def _supervoxels(options: argparse.Namespace) -> int:
    from napari_cnnvis.ucm.build import build_hierarchy
    from napari_cnnvis.ucm.files import write_levels
    from napari_cnnvis.volume import check_writable, read_volume, write_volume

    if options.contours:
        check_writable(options.contours)
    volume = read_volume(options.scan)
    with _interrupt_cancels("") as cancel:
        hierarchy = build_hierarchy(
            volume,
            options.boundary,
            counts=options.regions,
            cancel=cancel,
            progress=_progress(),
        )
    if options.output.endswith(".npz"):
        hierarchy.save(options.output)
    else:
        write_levels(hierarchy, options.output, volume.affine)
    if options.contours:
        write_volume(replace(volume, data=hierarchy.contour_map()), options.contours)
    counts = ", ".join(str(len(set(level.tolist()))) for level in hierarchy.levels)
    print(
        f"{hierarchy.n_leaves} supervoxels, levels of {counts} regions, written to {options.output}"
    )
    return 0


def _explain(options: argparse.Namespace) -> int:
    from napari_cnnvis.explain.request import explain
    from napari_cnnvis.models.checkpoint import load_model
    from napari_cnnvis.volume import check_writable, read_volume

    for path in filter(None, (options.output, options.disagreement)):
        check_writable(path)
    volume = read_volume(options.scan)
    model = load_model(options.model, device=options.device, trust=options.trust)
    probabilities = model.predict(volume)
    target = options.target
    if target is None:
        target = int(probabilities.argmax())
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
    with _interrupt_cancels("; the map so far is kept") as cancel:
        attribution = explain(model, volume, request, hierarchy, _progress(), cancel)
    attribution.save(options.output)
    if options.disagreement:
        from napari_cnnvis.explain.remap import remap

        how = request.quantity, request.score, DISAGREEMENT, request.join
        remap(attribution, target, *how).save(options.disagreement)
    classes = ", ".join(
        f"{n} {p:.1%}" for n, p in zip(model.class_names, probabilities, strict=True)
    )
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


@contextlib.contextmanager
def _interrupt_cancels(consequence: str) -> Iterator[threading.Event]:
    """Ctrl+C sets the event and says the consequence; pressed again it stops at once."""
    cancel = threading.Event()

    def interrupt(number: int, frame: object) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()
        print(f"\nstopping{consequence} ...", file=sys.stderr)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, before)


def _progress() -> Callable[[object], None] | None:
    """Shows the progress where somebody sees it."""
    return _print_progress if sys.stderr.isatty() else None


def _print_progress(progress: object) -> None:
    text = f"\r{progress.what}: {progress.done} of {progress.total}"
    end = "\n" if progress.done == progress.total else ""
    print(f"{text:<60}", end=end, file=sys.stderr, flush=True)


def _demo(options: argparse.Namespace) -> int:
    if not _has_display():
        if not options.screenshot:
            raise CnnVisError(
                "There is no display to open a window on. Use --screenshot out.png to render "
                "without one."
            )
        if shutil.which("xvfb-run") is None:
            raise CnnVisError(
                "There is no display, and no virtual one: install it with 'apt-get install xvfb "
                "xauth libgl1 libegl1 libgl1-mesa-dri', then run this again."
            )
        command = ["xvfb-run", "-a", "-s", "-screen 0 1600x1000x24", sys.executable, "-m"]
        command += ["napari_cnnvis.cli", "demo", "--screenshot", options.screenshot]
        os.execvp(command[0], command)
    from napari_cnnvis._napari.demo import show_demo

    show_demo(options.screenshot)
    return 0


def _has_display() -> bool:
    if not sys.platform.startswith("linux"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


if __name__ == "__main__":
    sys.exit(main())
