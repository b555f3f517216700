"""How much faster is the incremental engine than full passes? Side by side in one run.

    python tests/benchmarks/occlusion_engine.py --network VoxVGG
    python tests/benchmarks/occlusion_engine.py --network VoxVGG --boxes

The first times SA-3DUCM on the reference's 19 levels (``--levels``; without the file, on as
many levels of the sample scan's hierarchy): our `sensitivity`, the reference's loop (a full
pass for every region of every level, batch 1, torch's default memory layout) and captum's
``FeatureAblation`` of each level. The second times box occlusion, 7 x 7 x 7 voxels at stride 1,
and MONAI's ``OcclusionSensitivity``. The slow side is timed on a sample of passes and scaled.
The image is made up: uniform noise everywhere, or (``--empty-background``) 0 in the largest
region, as in a skull-stripped scan, where zero as baseline then changes nothing. Prints Markdown.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis.models.networks import vox as networks

REFERENCE = Path(__file__).parents[3] / "shared" / "data" / "reference_levels.npz"


def seconds(function, repeats):
    """Median time of one call, after one that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def peak_of_conv3d(device):
    """Multiply-adds per second of one large convolution, channels last."""
    conv = nn.Conv3d(64, 64, 3).to(device, memory_format=torch.channels_last_3d)
    x = torch.rand(1, 64, 57, 57, 57, device=device).contiguous(
        memory_format=torch.channels_last_3d
    )
    with torch.no_grad():
        return 55**3 * 27 * 64 * 64 / seconds(lambda: conv(x), 7)


def brain(labels):
    """All but the largest region."""
    values, counts = np.unique(labels, return_counts=True)
    return labels != values[counts.argmax()]


def network(name, seed=0):
    """With random weights, and BatchNorm statistics and gains that let a region be seen."""
    torch.manual_seed(seed)
    net = getattr(networks, name)().eval()
    for module in net.modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return net


def synchronised(net, x):
    out = net(x)
    if x.device.type == "cuda":
        torch.cuda.synchronize()
    return out


def full_pass_seconds(net, data, device, sample):
    """One pass as the reference's loop makes it."""
    x = torch.from_numpy(data)[None, None].to(device)
    with torch.no_grad():
        return seconds(lambda: synchronised(net, x), sample)


def captum_seconds(net, data, level, device, batches):
    """One region of captum's FeatureAblation at its best batch size."""
    from captum.attr import FeatureAblation

    x = torch.from_numpy(data)[None, None].to(device)
    _, mask = np.unique(level, return_inverse=True)
    mask = torch.from_numpy(mask.reshape(level.shape))[None, None].to(device)
    n = int(mask.max()) + 2  # and one pass of the clean volume
    best = {}
    with torch.no_grad():
        for batch in batches:
            ablation = FeatureAblation(net)
            best[batch] = (
                seconds(
                    lambda a=ablation, b=batch: a.attribute(
                        x, target=0, feature_mask=mask, perturbations_per_eval=b
                    ),
                    1,
                )
                / n
            )
    return min(best.values()), min(best, key=best.get)


def ucm(args):
    if args.levels.is_file():
        levels = np.load(args.levels)["labels"]
    else:
        hierarchy = cv.build_hierarchy(cv.read_volume(args.scan))
        counts = np.geomspace(769, 3, 19).astype(int)
        levels = np.array([hierarchy.cut(n) for n in counts])
    hierarchy = cv.Hierarchy.from_levels(list(levels))
    data = np.random.default_rng(0).random(levels.shape[1:], dtype=np.float32)
    if args.empty_background:
        data[~brain(levels[0])] = 0
    volume = cv.Volume(data, np.diag([2.0, 2.0, 2.0, 1.0]), "made up")
    passes = sum(len(np.unique(level)) for level in levels)

    plain = network(args.network).to(args.device)
    model = cv.Model(
        network(args.network), None, cv.InputSpec(data.shape, intensity="none"), args.device
    )
    peak = peak_of_conv3d(args.device)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took, results = [], []
    for _ in range(args.repeats):
        start = time.perf_counter()
        result = cv.sensitivity(
            model,
            volume,
            hierarchy,
            0,
            baseline=0,
            quantity="probability",
            precision=args.precision,
        )
        took.append(time.perf_counter() - start)
        results.append(result)
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6
    ours, report = float(np.median(took)), results[-1].provenance["engine"]
    logit, probability, floor = largest_differences(
        model, data, hierarchy, results[-1].regions, args.check
    )
    loop = full_pass_seconds(plain, data, args.device, args.sample) * passes
    smallest = levels[np.argmin([abs(len(np.unique(level)) - args.sample) for level in levels])]
    each, batch = captum_seconds(plain, data, smallest, args.device, args.captum_batches)
    captum = each * passes
    rate = report["multiply_adds"] / ours
    distinct = results[-1].provenance["regions_scored"]
    print(f"\n{args.network} on {args.device}, {passes} passes, {distinct} distinct regions\n")
    print("| | seconds | ratio |\n|---|---|---|")
    print(
        f"| ours, all of it ({args.repeats} runs: {', '.join(f'{t:.1f}' for t in took)}) | {ours:.1f} | 1 |"
    )
    print(
        f"| reference's loop (scaled from {args.sample} passes) | {loop:.0f} | {loop / ours:.0f}x |"
    )
    print(
        f"| captum FeatureAblation, batch {batch} (scaled) | {captum:.0f} | {captum / ours:.0f}x |"
    )
    size = np.nanmax(np.abs(results[-1].regions.occluded))
    print(
        f"\nlargest difference, {args.check} regions: logit {logit:.1e} (logits up to {size:.2g}; "
        f"full passes in two memory layouts differ by {floor:.1e}), probability {probability:.1e}"
    )
    print(
        f"multiply-adds: {report['multiply_adds'] / 1e9:.0f} G of {report['full_multiply_adds'] / 1e9:.0f} G"
        f" for the distinct regions; {rate / 1e9:.0f} G/s, Conv3d peak {peak / 1e9:.0f} G/s"
    )
    print(
        f"memory: kept outputs {report['kept_bytes'] / 1e9:.2f} GB, peak above the start {memory:.2f} GB"
    )


def largest_differences(plain, model, data, hierarchy, scores, count):
    """From a full pass, over evenly chosen regions: logits, probabilities; and the same between
    full passes in two memory layouts, which is how far float32 goes."""
    voxels, first, last = hierarchy.voxels()
    scored = np.flatnonzero(np.isfinite(scores.occluded[0, :, 0]))
    found = []
    for node in scored[np.linspace(0, len(scored) - 1, count).astype(int)]:
        x = data.copy()
        x.reshape(-1)[voxels[first[node] : last[node]]] = 0
        full = model.logits(model.tensor(x)).cpu()
        with torch.no_grad():
            other = plain(torch.from_numpy(x)[None, None].to(model.device)).cpu()
        ours = torch.from_numpy(scores.occluded[0, node])[None]
        found.append(
            [
                float((ours - full).abs().max()),
                float((ours.softmax(1) - full.softmax(1)).abs().max()),
                float((other - full).abs().max()),
            ]
        )
    return np.max(found, axis=0)


def boxes(args):
    from monai.visualize import OcclusionSensitivity

    labels = np.load(args.levels)["labels"][0]
    inside = brain(labels)
    data = np.random.default_rng(0).random(labels.shape, dtype=np.float32)
    volume = cv.Volume(data, np.diag([2.0, 2.0, 2.0, 1.0]), "made up")
    model = cv.Model(
        network(args.network), None, cv.InputSpec(data.shape, intensity="none"), args.device
    )
    start = time.perf_counter()
    result = cv.box_sensitivity(
        model, volume, 0, size=7, stride=1, baseline=0, inside=inside, time_budget=args.time_budget
    )
    ours = time.perf_counter() - start
    done = int(np.isfinite(result.regions.occluded[0, :, 0]).sum())
    report = result.provenance["engine"]
    # at the middle of the head, so that all of MONAI's boxes are whole
    middle = [int(axis.mean()) for axis in np.nonzero(inside)]
    side = 5
    box = [v for m in middle for v in (m, m + side)]
    x = torch.from_numpy(data)[None, None].to(args.device)
    plain = network(args.network).to(args.device)
    monai = {}
    with torch.no_grad():
        for n_batch in (1, 8):
            peer = OcclusionSensitivity(
                plain, mask_size=7, n_batch=n_batch, verbose=False, mode=0.0, overlap=6 / 7
            )
            begin = time.perf_counter()
            theirs, _ = peer(x, b_box=box)
            monai[n_batch] = (time.perf_counter() - begin) / theirs[0, 0].numel()
    each, batch = min(monai.values()), min(monai, key=monai.get)
    boxes_there = int(inside.sum())
    scaled = ours * boxes_there / done
    rate = report["multiply_adds"] * done / boxes_there / ours
    print(
        f"\n{args.network} on {args.device}, boxes of 7 x 7 x 7, stride 1, {boxes_there} centres\n"
    )
    print("| | seconds | ratio |\n|---|---|---|")
    print(f"| ours ({done} boxes run) | {scaled:.0f} | 1 |")
    print(
        f"| MONAI OcclusionSensitivity, batch {batch} (scaled from {side**3} boxes) | "
        f"{each * boxes_there:.0f} | {each * boxes_there / scaled:.0f}x |"
    )
    print(
        f"\n{done / ours:.0f} boxes/s; multiply-adds {report['full_multiply_adds'] / report['multiply_adds']:.0f}"
        f" times fewer than full passes; {rate / 1e9:.0f} G/s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--network", choices=["VoxVGG", "VoxResNet", "VoxResNetGAP"], default="VoxVGG"
    )
    parser.add_argument("--boxes", action="store_true", help="box occlusion instead of SA-3DUCM")
    parser.add_argument("--empty-background", action="store_true")
    parser.add_argument("--levels", type=Path, default=REFERENCE)
    parser.add_argument(
        "--scan", default=Path(__file__).parents[2] / "sample_data" / "simulated_control.nii.gz"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=["single", "half"], default="single")
    parser.add_argument("--repeats", type=int, default=1, help="runs of ours; the median counts")
    parser.add_argument("--sample", type=int, default=10, help="full passes that are timed")
    parser.add_argument("--captum-batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--check", type=int, default=12, help="regions computed both ways")
    parser.add_argument("--time-budget", type=float, help="stop the boxes after so many seconds")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {args.threads} threads", file=sys.stderr)
    boxes(args) if args.boxes else ucm(args)


if __name__ == "__main__":
    main()
