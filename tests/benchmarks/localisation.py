"""Does each method find what the simulated disease changed? In-brain ROC-AUC on held-out patients.

    python tests/benchmarks/localisation.py --patients 6 --network voxvgg

Needs the extras `sample` and `test`. Prints one Markdown table: mean and spread over the patients of the
signed map of the class "atrophy" against the ground truth, inside the brain.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from skimage.segmentation import slic

import napari_cnnvis as cv
from napari_cnnvis.explain.options import JOINS

SAMPLES = Path(__file__).parents[2] / "sample_data"
sys.path.insert(0, str(SAMPLES))

import simulated_cohort as cohort  # noqa: E402
from train_networks import PATIENT_SEED  # noqa: E402


def maps_of(model, volume, controls, args):
    """Pairs of a row's name and its map."""
    layers = [name for name in model.target_layers if not args.layers or name in args.layers]
    for alignment in ("stretch", "receptive field"):
        maps = cv.grad_cam(model, volume, "atrophy", "all", relu=False, alignment=alignment)
        for name in layers:
            yield f"Grad-CAM {name}, {alignment}", maps[name].data
    if model.layers(volume.shape).cam_head is not None:
        yield "CAM", cv.cam(model, volume, "atrophy").data
    for kind, cut in (("SLIC levels", slic_level), ("cubes", cubes_level)):
        if kind.split()[0].lower() in args.peers:
            maps = []
            for n in args.levels:
                level = cv.Hierarchy.from_levels([cut(volume, n)], background=0)
                result = cv.sensitivity(model, volume, level, "atrophy", margin=args.margin)
                maps.append(result.data)
            yield f"sensitivity of {kind}, drop, blur, mean", np.mean(maps, axis=0)
    if args.boundary:
        hierarchy = cv.build_hierarchy(volume, args.boundary)
        given = [controls if name == "controls" else name for name in args.baselines]
        result = cv.sensitivity(
            model, volume, hierarchy, "atrophy", given, levels=args.levels, margin=args.margin
        )
        for name in result.regions.baselines:
            for join in JOINS:
                how = {"baseline": name, "join": join}
                yield f"UCM sensitivity, drop, {name}, {join}", cv.remap(result, 1, **how).data
        for join in JOINS:
            absolute = np.abs(cv.remap(result, 1, score="logit", join=join).data)
            yield f"UCM sensitivity, absolute drop of the logit, all baselines, {join}", absolute
    if args.box_stride:
        result = cv.box_sensitivity(model, volume, "atrophy", stride=args.box_stride)
        yield f"Box occlusion, 7 voxels, stride {args.box_stride}, blur", result.data


def slic_level(volume, n):
    """About n SLIC supervoxels of the brain; it gives fewer than it is asked for."""
    data, ask = volume.data / volume.data.max(), n
    for _ in range(4):
        labels = slic(
            data, round(ask), 0.05, channel_axis=None, mask=data > 0, enforce_connectivity=True
        )
        ask *= n / len(np.unique(labels[labels > 0]))
    return labels


def cubes_level(volume, n):
    """About n cubes (less at the edge) that fill the brain."""
    brain = volume.data > 0
    side = (brain.sum() / n) ** (1 / 3)
    cell = [(np.arange(length) / side).astype(int) for length in brain.shape]
    index = np.ravel_multi_index(np.ix_(*cell), [c.max() + 1 for c in cell])
    return np.where(brain, index + 1, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=["voxvgg", "voxresnetgap"], default="voxvgg")
    parser.add_argument("--patients", type=int, default=6)
    parser.add_argument("--levels", type=int, nargs="+", default=[400, 200, 100, 50, 25, 12])
    parser.add_argument("--margin", type=float, default=0.0, help="mm that regions grow")
    parser.add_argument(
        "--boundary", default="gradient", help="of the supervoxels; '': no UCM sensitivity"
    )
    parser.add_argument("--peers", nargs="*", default=[], help="slic, cubes: instead of the UCM")
    parser.add_argument(
        "--baselines", nargs="*", default=["blur", "border", "noise", "controls", "0"]
    )
    parser.add_argument("--box-stride", type=int, default=0, help="0: no boxes")
    parser.add_argument("--layers", nargs="*", help="only these layers")
    args = parser.parse_args()
    template = cohort.load_template()
    model = cv.load_model(SAMPLES / f"{args.network}_simulated_atrophy.safetensors")
    controls = [cohort.make_subject(template, 0, PATIENT_SEED + 1001 + n) for n in range(10)]
    average = np.mean([subject.scan.numpy() for subject in controls], axis=0)
    controls = cv.Volume(average, cohort.AFFINE, "controls")
    scores = defaultdict(list)
    started = time.monotonic()
    for number in range(args.patients):
        patient = cohort.make_subject(template, 1, PATIENT_SEED + 1 + 2 * number)
        volume = cv.Volume(patient.scan.numpy(), cohort.AFFINE, f"patient {number}")
        truth, brain = patient.changed.numpy(), volume.data > 0
        for name, data in maps_of(model, volume, controls, args):
            scores[name].append(cv.roc_auc(data, truth, brain))
        print(f"patient {number}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print(f"| {args.network}, {args.patients} patients | ROC-AUC | lowest |")
    print("|---|---|---|")
    for name, values in scores.items():
        print(f"| {name} | {np.mean(values):.2f} ± {np.std(values):.2f} | {min(values):.2f} |")


if __name__ == "__main__":
    main()
