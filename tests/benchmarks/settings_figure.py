"""What makes sensitivity find the place? A figure of the settings that `napari-cnnvis evaluate` scored.

    napari-cnnvis evaluate dev.csv --model VoxVGG=net.safetensors --target atrophy --methods sensitivity \
        --levels 400 200 100 50 25 --margin 0 6 --join mean size-aware --quantity drop absolute \
        --smooth 0 6 12 18 --score logit --baseline blur border 0 -o dev
    python tests/benchmarks/settings_figure.py dev/scores.csv settings.png

One line for each baseline and quantity: in-brain ROC-AUC against the ground truth by smoothing, the mean
over the scans, levels joined size-aware, no margin. Prints the best settings.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import defaultdict

import numpy as np
from matplotlib.figure import Figure

COLOURS = {"blur": "tab:blue", "border": "tab:green", "0": "tab:red"}
LINES = {"drop": "-", "absolute": "--"}


def read_scores(path):
    """Mean ROC-AUC against the truth by (baseline, join, quantity, smoothing, margin)."""
    values = defaultdict(list)
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            if row["method"] != "UCM sensitivity" or row["region"] != "truth":
                continue
            parts = [part.strip() for part in row["setting"].split(",")]
            smooth = re.search(r"smoothed (\S+) mm", row["setting"])
            margin = re.search(r"margin (\S+) mm", row["setting"])
            baseline = next(p for p in parts if p in COLOURS or p.startswith("mean of "))
            join = "size-aware" if "size-aware" in parts else "mean"
            quantity = "absolute" if "absolute" in parts else "drop"
            key = (
                *(baseline, join, quantity),
                *(float(found[1]) if found else 0.0 for found in (smooth, margin)),
            )
            values[key].append(float(row["roc_auc"]))
    return {key: (np.mean(found), np.std(found), len(found)) for key, found in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scores")
    parser.add_argument("figure")
    args = parser.parse_args()
    scores = read_scores(args.scores)
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    for baseline, colour in COLOURS.items():
        for quantity, line in LINES.items():
            points = sorted(
                (key[3], value[0], value[1])
                for key, value in scores.items()
                if key[:3] == (baseline, "size-aware", quantity) and key[4] == 0
            )
            if points:
                x, mean, deviation = np.transpose(points)
                label = f"{'zero' if baseline == '0' else baseline}, {'size of the ' * (quantity == 'absolute')}drop"
                axes.errorbar(
                    x,
                    mean,
                    deviation,
                    color=colour,
                    ls=line,
                    marker="o",
                    ms=3,
                    capsize=2,
                    label=label,
                )
    axes.axhline(0.5, color="0.6", lw=0.8, ls=":")
    axes.set(
        xlabel="smoothing, mm (full width at half maximum)",
        ylabel="in-brain ROC-AUC",
        ylim=(0.45, 1),
    )
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(args.figure, dpi=150)
    for key, (mean, deviation, n) in sorted(scores.items(), key=lambda item: -item[1][0])[:12]:
        print(f"{mean:.3f} ± {deviation:.3f} (n = {n}): {key}")


if __name__ == "__main__":
    main()
