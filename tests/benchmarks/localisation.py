"""Which levels, margin and segmentation suit sensitivity? In-brain ROC-AUC on held-out patients.

    python tests/benchmarks/localisation.py --network voxvgg --patients 6 \
        --levels 800,400,200,100 400,200,100,50,25,12 --margins 0 6 --cuts ucm slic cubes

`napari-cnnvis evaluate` compares methods; this searches their settings, also on cubes, which the
command does not have, and with the average of ten controls as a baseline. Needs the extras `sample`
and `test`. Prints one Markdown table: mean, spread and lowest value over the patients of the signed
map of the class "atrophy" against the ground truth.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from itertools import product
from pathlib import Path

import numpy as np

import napari_cnnvis as cv
from napari_cnnvis.evaluate.benchmark.methods import slic_level
from napari_cnnvis.explain.common_parameters import JOINS

SAMPLES = Path(__file__).parents[2] / "sample_data"
sys.path.insert(0, str(SAMPLES))

import simulated_cohort as cohort  # noqa: E402

CONTROLS = 10


def cubes_level(volume, n):
    """About n cubes (less at the edge) that fill the brain."""
    brain = volume.data > 0
    side = (brain.sum() / n) ** (1 / 3)
    cell = [(np.arange(length) / side).astype(int) for length in brain.shape]
    index = np.ravel_multi_index(np.ix_(*cell), [c.max() + 1 for c in cell])
    return np.where(brain, index + 1, 0)


def maps_of(model, volume, args, baselines):
    """Pairs of a row's name and its map."""
    hierarchy = cv.build_hierarchy(volume, args.boundary) if "ucm" in args.cuts else None
    for levels, margin in product(args.levels, args.margins):
        how = f"levels {'/'.join(map(str, levels))}, margin {margin:g} mm"
        if hierarchy is not None:
            result = cv.sensitivity(
                model,
                volume,
                hierarchy,
                "atrophy",
                baseline=baselines,
                levels=levels,
                margin=margin,
            )
            for baseline, join in product(result.regions.baselines, JOINS):
                data = cv.remap(result, "atrophy", baseline=baseline, join=join).data
                yield f"UCM, {how}, {baseline}, {join}", data
            for join in JOINS:
                drop = cv.remap(result, "atrophy", score="logit", join=join).data
                yield f"UCM, {how}, absolute drop of the logit, all baselines, {join}", np.abs(drop)
        for name, cut in (("slic", slic_level), ("cubes", cubes_level)):
            if name in args.cuts:
                maps = []
                for n in levels:
                    level = cv.Hierarchy.from_levels([cut(volume, n)], background=0)
                    result = cv.sensitivity(
                        model, volume, level, "atrophy", baseline=baselines, margin=margin
                    )
                    maps.append(
                        [result.regions.map(1, baseline=b) for b in result.regions.baselines]
                    )
                for baseline, data in zip(
                    result.regions.baselines, np.mean(maps, axis=0), strict=True
                ):
                    yield f"{name}, {how}, {baseline}, mean", data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=["voxvgg", "voxresnetgap"], default="voxvgg")
    parser.add_argument("--patients", type=int, default=6)
    parser.add_argument("--cuts", nargs="+", choices=["ucm", "slic", "cubes"], default=["ucm"])
    parser.add_argument(
        "--levels",
        type=lambda text: [int(n) for n in text.split(",")],
        nargs="+",
        default=[[800, 400, 200, 100]],
        help="numbers of regions, one set or several",
    )
    parser.add_argument(
        "--margins", type=float, nargs="+", default=[6.0], help="mm that regions grow"
    )
    parser.add_argument("--boundary", default="gradient", help="of the UCM")
    parser.add_argument(
        "--baselines", nargs="+", default=["blur"], help="blur, border, noise, controls, 0"
    )
    args = parser.parse_args()
    template = cohort.load_template()
    model = cv.load_model(SAMPLES / f"{args.network}_simulated_atrophy.safetensors")
    baselines = list(args.baselines)
    if "controls" in baselines:
        seeds = range(cohort.PATIENT_SEED + 1001, cohort.PATIENT_SEED + 1001 + CONTROLS)
        controls = [cohort.make_subject(template, 0, seed).scan.numpy() for seed in seeds]
        average = cv.Volume(np.mean(controls, axis=0), cohort.AFFINE, "controls")
        baselines[baselines.index("controls")] = average
    scores = defaultdict(list)
    started = time.monotonic()
    for number in range(args.patients):
        patient = cohort.make_subject(template, 1, cohort.PATIENT_SEED + 1 + 2 * number)
        volume = cv.Volume(patient.scan.numpy(), cohort.AFFINE, f"patient {number}")
        truth, brain = patient.changed.numpy(), volume.data > 0
        for name, data in maps_of(model, volume, args, baselines):
            scores[name].append(cv.roc_auc(data, truth, brain))
        print(f"patient {number}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print(f"| {args.network}, {args.patients} patients | ROC-AUC | lowest |")
    print("|---|---|---|")
    for name, values in scores.items():
        print(f"| {name} | {np.mean(values):.2f} ± {np.std(values):.2f} | {min(values):.2f} |")


if __name__ == "__main__":
    main()
