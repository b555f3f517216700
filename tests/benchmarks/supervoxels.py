"""How well do supervoxels keep to anatomy? Ours beside SLIC, Felzenszwalb's criterion and Ward.

    python tests/benchmarks/supervoxels.py
    python tests/benchmarks/supervoxels.py --scans scan1.nii.gz scan2.nii.gz --plot plot.png

Without scans: the MNI152 T1 at 2 mm against the Desikan-Killiany atlas (needs the extra
`sample`). With scans, which need no labels: explained variation and boundaries against the
scan's own gradient. Prints Markdown tables. `--search SECONDS` is the experiment that found
the merge criterion's defaults: random steps from them, best first.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import higra as hg
import numpy as np
from scipy import ndimage
from skimage.segmentation import slic, watershed

import napari_cnnvis as cv
from napari_cnnvis.scan.head import find_head
from napari_cnnvis.ucm.basins import basins
from napari_cnnvis.ucm.boundary.gradient import gradient
from napari_cnnvis.ucm.criterion import MergeCriterion
from napari_cnnvis.ucm.quality import (
    achievable_accuracy,
    best_region,
    boundary_recall,
    explained_variation,
    undersegmentation_error,
)
from napari_cnnvis.ucm.region_graph import RegionGraph

COUNTS = (769, 300, 75, 30)
PARTS = {
    "lateral ventricles": (4, 43),
    "left hippocampus": (17,),
    "right hippocampus": (53,),
}
COMPACTNESS = (0.02, 0.05, 0.1)


@dataclass(frozen=True, eq=False)
class Scan:
    """What is segmented; ``regions`` is the atlas, or None."""

    volume: cv.Volume
    head: np.ndarray
    scaled: np.ndarray
    regions: np.ndarray | None


def load_template() -> tuple[Scan, np.ndarray]:
    sys.path.insert(0, str(Path(__file__).parents[2] / "sample_data"))
    import simulated_cohort as cohort

    template = cohort.load_template()
    volume = cv.Volume(template.brain.numpy(), cohort.AFFINE.astype(float), "MNI152")
    _, regions = np.unique(template.labels, return_inverse=True)
    return scan_of(volume, regions.reshape(volume.shape).astype(np.int32)), template.labels


def scan_of(volume: cv.Volume, regions: np.ndarray | None = None) -> Scan:
    head = find_head(volume.data)
    scaled = (volume.data / np.percentile(volume.data[head], 99)).astype(np.float32)
    return Scan(volume, head, scaled, regions)


def magnitude(scan: Scan) -> np.ndarray:
    """Gaussian gradient magnitude, 1.4 mm."""
    widths = [1.4 / step for step in scan.volume.spacing]
    return ndimage.gaussian_gradient_magnitude(scan.scaled, widths, mode="nearest")


# --- the peers: each gives a function from a number of regions to a label volume ---------


def slic_cut(scan: Scan, compactness: float):
    """SLIC asked for so many that about n come out (it gives fewer than it is asked for)."""

    def cut(n: int) -> np.ndarray:
        ask, best = float(n), None
        for _ in range(6):
            labels = slic(
                scan.scaled,
                n_segments=round(ask),
                compactness=compactness,
                channel_axis=None,
                mask=scan.head,
                spacing=scan.volume.spacing,
            )
            got = len(np.unique(labels)) - 1
            if best is None or abs(got - n) < abs(best[0] - n):
                best = got, labels
            if abs(got - n) <= 2:
                break
            ask *= n / got
        return best[1]

    return cut


def ward_cut(scan: Scan, position: float):
    """higra's Ward on basins of the gradient magnitude: intensity, and position per mm."""
    strength = magnitude(scan)
    lowest = ndimage.minimum_filter(strength, 3) == strength
    markers, _ = ndimage.label(lowest & scan.head, np.ones((3, 3, 3)))
    labels = watershed(strength, markers, mask=scan.head)
    graph = graph_of(scan, labels.astype(np.int32))
    weights = np.array([1, position, position, position])
    tree, altitudes = hg.binary_partition_tree_ward_linkage(
        higra_graph(graph),
        np.ascontiguousarray(graph.means.T * weights),
        graph.sizes,
        altitude_correction="max",
    )
    return tree_of(labels, np.asarray(tree.parents()), np.asarray(altitudes)).cut


def felzenszwalb_cut(scan: Scan):
    """Felzenszwalb and Huttenlocher (IJCV 2004) on the basins, k found by bisection."""
    labels = basins(scan.scaled, scan.head)
    graph = graph_of(scan, labels)
    weight = np.abs(np.diff(graph.means[0][graph.pairs], axis=0))[0]
    order = np.argsort(weight, kind="stable")
    pairs, weight = graph.pairs[:, order].T.tolist(), weight[order].tolist()
    voxels = np.bincount(labels.ravel())[1:]
    smallest = 8

    def merge(k: float) -> np.ndarray:
        leader = list(range(len(voxels)))
        size, inner = voxels.tolist(), [0.0] * len(voxels)

        def find(i: int) -> int:
            while leader[i] != i:
                leader[i] = i = leader[leader[i]]
            return i

        for least in (0, smallest):
            for (a, b), w in zip(pairs, weight, strict=True):
                i, j = find(a), find(b)
                if i == j:
                    continue
                close = w <= min(inner[i] + k / size[i], inner[j] + k / size[j])
                if close or min(size[i], size[j]) < least:
                    leader[j] = i
                    size[i] += size[j]
                    inner[i] = w
        return np.array([find(i) for i in range(len(voxels))])

    def cut(n: int) -> np.ndarray:
        low, high, best = 1e-3, 1e5, None
        for _ in range(18):
            k = np.sqrt(low * high)
            region = merge(k)
            got = len(np.unique(region))
            if best is None or abs(got - n) < abs(best[0] - n):
                best = got, region
            low, high = (k, high) if got > n else (low, k)
        _, region = np.unique(best[1], return_inverse=True)
        return np.concatenate([[0], region + 1]).astype(np.int32)[labels]

    return cut


def graph_of(scan: Scan, labels: np.ndarray) -> RegionGraph:
    grid = np.indices(labels.shape, np.float32, sparse=True)
    centres = [g * step for g, step in zip(grid, scan.volume.spacing, strict=True)]
    faces = gradient(scan.scaled, scan.volume.spacing)
    return RegionGraph.of_labels(labels, [scan.scaled, *centres], faces, 1.0)


def higra_graph(graph: RegionGraph) -> hg.UndirectedGraph:
    result = hg.UndirectedGraph(graph.n_regions)
    result.add_edges(*graph.pairs)
    return result


def tree_of(labels: np.ndarray, parents: np.ndarray, altitudes: np.ndarray) -> cv.Hierarchy:
    return cv.Hierarchy.from_tree(labels.astype(np.int32), parents, altitudes, [1])


def methods(scan: Scan, gpb: bool):
    """Pairs of a name, and a function that makes the cut and, if there is one, the tree."""

    def ours(boundary: str):
        tree = cv.build_hierarchy(scan.volume, boundary)
        return tree.cut, tree

    yield "ours, gradient", lambda: ours("gradient")
    if gpb:
        yield "ours, gpb", lambda: ours("gpb")
    for compactness in COMPACTNESS if scan.regions is not None else COMPACTNESS[1:2]:
        yield f"SLIC, compactness {compactness}", lambda c=compactness: (slic_cut(scan, c), None)
    yield "Felzenszwalb", lambda: (felzenszwalb_cut(scan), None)
    yield "Ward, intensity", lambda: (ward_cut(scan, 0.0), None)
    yield "Ward, intensity + 0.005 x position", lambda: (ward_cut(scan, 0.005), None)


# --- measures ---------------------------------------------------------------------------


def against_atlas(scan: Scan, labels: np.ndarray) -> dict[str, float]:
    return {
        "ASA": achievable_accuracy(labels, scan.regions),
        "boundary recall": boundary_recall(labels, scan.regions),
        "undersegmentation error": undersegmentation_error(labels, scan.regions),
        "explained variation": explained_variation(labels, scan.volume.data),
    }


def against_gradient(scan: Scan, labels: np.ndarray, strength: np.ndarray) -> dict[str, float]:
    """Explained variation, and boundaries on the strongest tenth of the gradient in the head."""
    inner = ndimage.binary_erosion(scan.head)
    strong = strength > np.percentile(strength[inner], 90)
    edge = np.zeros(labels.shape, bool)
    for axis in range(3):
        differ = np.diff(labels, axis=axis) != 0
        a, b = (np.moveaxis(edge, axis, 0)[s] for s in (np.s_[:-1], np.s_[1:]))
        a |= np.moveaxis(differ, axis, 0)
        b |= np.moveaxis(differ, axis, 0)
    edge &= inner
    near = ndimage.distance_transform_edt(~edge) <= 1
    return {
        "explained variation": explained_variation(labels, scan.volume.data),
        "strong gradient with a boundary": float(near[strong & inner].mean()),
        "gradient on boundaries / in the head": float(
            strength[edge].mean() / strength[inner].mean()
        ),
    }


def compare(scan: Scan, atlas: np.ndarray | None, gpb: bool) -> dict:
    strength = magnitude(scan)
    rows = {}
    for name, make in methods(scan, gpb):
        began = time.perf_counter()
        cut, tree = make()
        built = time.perf_counter() - began
        rows[name] = {}
        for n in COUNTS:
            began = time.perf_counter()
            labels = cut(n)
            spent = time.perf_counter() - began
            measured = (
                against_atlas(scan, labels)
                if scan.regions is not None
                else against_gradient(scan, labels, strength)
            )
            rows[name][n] = {"regions": len(np.unique(labels)) - 1, **measured}
            print(f"{name}, {n}: {rows[name][n]}, {spent:.2f} s", file=sys.stderr, flush=True)
        print(f"{name}: built in {built:.2f} s", file=sys.stderr, flush=True)
        if tree is not None and atlas is not None:
            for part, values in PARTS.items():
                dice = best_region(tree, np.isin(atlas, values))[1]
                print(f"{name}: best single region for the {part}: Dice {dice:.2f}")
    return rows


def print_table(rows: dict, name: str) -> None:
    measures = [m for m in next(iter(rows.values()))[COUNTS[0]] if m != "regions"]
    for measure in measures:
        print(f"\n| {name}: {measure} | " + " | ".join(f"{n} regions" for n in COUNTS) + " |")
        print("|---|" + "---|" * len(COUNTS))
        for method, at in rows.items():
            cells = [f"{at[n][measure]:.3f} ({at[n]['regions']})" for n in COUNTS]
            print(f"| {method} | " + " | ".join(cells) + " |")


def plot(rows: dict, path: str) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6))
    for axis, measure in zip(axes, ["ASA", "boundary recall", "explained variation"], strict=True):
        for name, at in rows.items():
            points = sorted((at[n]["regions"], at[n][measure]) for n in COUNTS)
            bold = {"linewidth": 2.5} if name.startswith("ours") else {"linestyle": "--"}
            axis.plot(*zip(*points, strict=True), marker="o", label=name, **bold)
        axis.set(xscale="log", xlabel="regions", title=measure)
        axis.set_xticks(COUNTS, [str(n) for n in COUNTS])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    names = axes[0].get_legend_handles_labels()
    figure.legend(*names, loc="lower center", ncols=4, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.savefig(path, dpi=110)


# --- time and memory --------------------------------------------------------------------


def whole_head(template: cv.Volume) -> cv.Volume:
    """A stand-in for a whole head at 1 mm: the brain, fluid, skull, scalp, and noise everywhere."""
    shape = (182, 218, 182)
    middle = [(np.arange(n) - n / 2) / 2 + c for n, c in zip(shape, (55, 56, 50), strict=True)]
    where = np.meshgrid(*middle, indexing="ij")
    brain = ndimage.map_coordinates(template.data, where, order=1)
    away = ndimage.distance_transform_edt(brain < 0.1)
    shells = np.select([away < 3, away < 7, away < 16], [0.3, 0.35, 0.9], 0.02)
    data = np.where(brain < 0.1, shells, brain)
    data += np.random.default_rng(0).normal(0, 0.02, shape)
    return cv.Volume(np.abs(data), np.eye(4), "whole head, 1 mm")


def print_times(template: cv.Volume) -> None:
    print("| volume | boundary | head voxels | supervoxels | seconds | peak memory, GB |")
    print("|---|---|---|---|---|---|")
    cases = [(template, "gradient"), (whole_head(template), "gradient")]
    for volume, boundary in [*cases, (template, "gpb"), (cases[1][0], "gpb")]:
        spent = []
        for _ in range(3 if boundary == "gradient" else 1):
            began = time.perf_counter()
            tree = cv.build_hierarchy(volume, boundary)
            spent.append(time.perf_counter() - began)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(
            f"| {volume.name}, {' x '.join(map(str, volume.shape))} | {boundary} "
            f"| {(tree.leaves > 0).sum():,} | {tree.n_leaves:,} | {min(spent):.2f} | {peak:.2f} |",
            flush=True,
        )


def print_noisy(scan: Scan, atlas: np.ndarray, copies: int) -> None:
    """The same on copies of the scan with 0.4 % of noise: what is luck?"""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(copies):
        noise = 1 + 0.004 * rng.normal(size=scan.volume.shape)
        volume = replace(scan.volume, data=(scan.volume.data * noise).astype(np.float32))
        tree = cv.build_hierarchy(volume)
        measured = [against_atlas(scan, tree.cut(n)) for n in COUNTS]
        row = [m[name] for name in ("ASA", "boundary recall") for m in measured]
        parts = [best_region(tree, np.isin(atlas, values))[1] for values in PARTS.values()]
        rows.append([*row, *parts])
    names = [f"{name} {n}" for name in ("ASA", "boundary recall") for n in COUNTS] + list(PARTS)
    for name, mean, spread in zip(names, np.mean(rows, 0), np.std(rows, 0), strict=True):
        print(f"{name}: {mean:.3f} ± {spread:.3f}")


# --- the experiment ---------------------------------------------------------------------


def search(scan: Scan, atlas: np.ndarray, seconds: float, seed: int) -> None:
    """Random steps from the defaults; a line for each, with its score."""
    rng = np.random.default_rng(seed)
    slic_best = {
        n: np.max(
            [list(against_atlas(scan, slic_cut(scan, c)(n)).values())[:2] for c in COMPACTNESS],
            axis=0,
        )
        for n in COUNTS
    }
    goals = dict(zip(PARTS, (0.8, 0.6, 0.6), strict=True))
    pool: list[tuple[float, MergeCriterion]] = []
    candidate = MergeCriterion()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        tree = cv.build_hierarchy(scan.volume, criterion=candidate)
        score, said = 0.0, []
        for n in COUNTS:
            measured = against_atlas(scan, tree.cut(n))
            asa, recall = measured["ASA"], measured["boundary recall"]
            score += 10 * min(asa - slic_best[n][0], 0.01)
            score += 4 * min(recall - slic_best[n][1], 0.003)
            said.append(f"{asa:.3f}/{recall:.3f}")
        for part, goal in goals.items():
            dice = best_region(tree, np.isin(atlas, PARTS[part]))[1]
            score += 2 * min(dice - goal, 0)
            said.append(f"{dice:.2f}")
        print(f"{score:.4f}", *said, candidate, flush=True)
        pool = sorted([*pool, (score, candidate)], key=lambda pair: -pair[0])[:8]
        chosen = pool[rng.integers(len(pool))][1]
        steps = {
            name: getattr(chosen, name) * float(np.exp(0.3 * rng.normal()))
            for name in MergeCriterion.__dataclass_fields__
            if rng.random() < 0.3
        }
        candidate = replace(chosen, **steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", nargs="*", help="scans without labels")
    parser.add_argument("--gpb", action="store_true", help="also ours with gpb")
    parser.add_argument("--plot", metavar="PNG", help="needs matplotlib")
    parser.add_argument("--search", type=float, metavar="SECONDS")
    parser.add_argument("--noisy", type=int, metavar="COPIES", help="ours on copies with noise")
    parser.add_argument("--time", action="store_true", help="how long it takes, and the memory")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.scans:
        for path in args.scans:
            volume = cv.read_volume(path)
            print_table(compare(scan_of(volume), None, args.gpb), volume.name)
        return
    scan, atlas = load_template()
    if args.noisy:
        print_noisy(scan, atlas, args.noisy)
        return
    if args.time:
        print_times(scan.volume)
        return
    if args.search:
        search(scan, atlas, args.search, args.seed)
        return
    rows = compare(scan, atlas, args.gpb)
    print_table(rows, "MNI152")
    if args.plot:
        plot(rows, args.plot)


if __name__ == "__main__":
    main()
