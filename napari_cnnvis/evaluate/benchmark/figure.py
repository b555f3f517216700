"""A benchmark's pictures: the methods, the layers' resolution, and the regions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_cnnvis.evaluate.benchmark.options import BENCHMARKED
from napari_cnnvis.evaluate.benchmark.summary import (
    FAMILIES,
    GRADIENT_NAMES,
    SummaryRow,
    family_of,
    headlines,
    models_of,
    regions_of,
)
from napari_cnnvis.evaluate.benchmark.table import TRUTH
from napari_cnnvis.figure.page import own_settings
from napari_cnnvis.writing import atomic_path

__all__ = ["write_figures"]

#: told apart also by those who do not see all colours (Okabe and Ito)
_BLUE, _ORANGE, _GREEN, _PURPLE, _SKY, _GREY = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#8A8A8A",
)  # fmt: skip
_FAMILY_COLOURS = {"occlusion": _BLUE, "cam": _GREEN, "gradient": _ORANGE, "control": _GREY}
_COLOURS = (_BLUE, _ORANGE, _GREEN, _PURPLE, _SKY, _GREY)
_MARKERS = "osD^vP"
_ENDINGS = (".png", ".svg")
_DPI = 150
#: inches of a line of text with its gap
_LINE = 0.3


def write_figures(summary: Sequence[SummaryRow], folder: Path) -> list[Path]:
    """Draw ``localisation``, ``resolution`` and ``regions`` into a folder, as PNG and SVG.

    ``resolution`` needs Grad-CAM or one of its variants, and ``regions`` a region beside the truth;
    without them they are left out.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    VolumeError
        If they cannot be written.
    """
    drawings: dict[str, Callable[[Sequence[SummaryRow]], Any]] = {"localisation": _localisation}
    if any(row.facts.method in GRADIENT_NAMES for row in summary):
        drawings["resolution"] = _resolution
    if len(regions_of(summary)) > 1:
        drawings["regions"] = _regions
    files = []
    with own_settings():
        for name, draw in drawings.items():
            figure = draw(summary)
            for ending in _ENDINGS:
                path = folder / f"{name}{ending}"
                date = {"Date": None} if ending == ".svg" else None
                with atomic_path(path) as temporary:
                    figure.savefig(temporary, dpi=_DPI, metadata=date)
                files.append(path)
    return files


def _panels(summary: Sequence[SummaryRow], heights: Sequence[float], width: float) -> Any:
    """A figure with a panel for each model, one above the other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, sum(heights)), facecolor="white", layout="constrained")
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, name in zip(axes, models_of(summary), strict=True):
        panel.set_title(name, loc="left", fontweight="bold", fontsize=11)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _rows_panel(axes: Any, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.axvline(0.5, color="black", linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("in-brain ROC-AUC (0.5: chance), mean ± standard deviation", fontsize=9)


def _localisation(summary: Sequence[SummaryRow]) -> Any:
    from matplotlib.patches import Patch

    lines = {name: headlines(summary, name) for name in models_of(summary)}
    heights = [_LINE * len(of_model) + 1.1 for of_model in lines.values()]
    figure, panels = _panels(summary, heights, 8.5)
    seen = set()
    for axes, of_model in zip(panels, lines.values(), strict=True):
        _rows_panel(axes, [line.label for line in of_model])
        for place, line in enumerate(of_model):
            mean, std = (part["roc_auc"] for part in (line.truth.mean, line.truth.std))
            family = family_of(line.truth.facts.method)
            seen.add(family)
            axes.barh(place, mean - 0.5, 0.65, 0.5, color=_FAMILY_COLOURS[family])
            axes.errorbar(mean, place, xerr=std, color="black", capsize=2.5, linewidth=1)
            axes.text(1.02, place, f"{mean:.2f} ± {std:.2f}", va="center", fontsize=8.5)
        axes.set_xlim(min(0.3, *(_low(line.truth) for line in of_model)), 1.0)
    shown = [name for name in FAMILIES if name in seen]
    figure.legend(
        [Patch(color=_FAMILY_COLOURS[name]) for name in shown],
        [FAMILIES[name] for name in shown],
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=9,
    )
    return figure


def _low(row: SummaryRow) -> float:
    return row.mean["roc_auc"] - row.std["roc_auc"] - 0.02


def _regions(summary: Sequence[SummaryRow]) -> Any:
    lines = {name: headlines(summary, name) for name in models_of(summary)}
    regions = regions_of(summary)
    heights = [_LINE * 1.35 * len(of_model) + 1.1 for of_model in lines.values()]
    figure, panels = _panels(summary, heights, 8.5)
    offsets = np.linspace(-0.26, 0.26, len(regions))
    for axes, of_model in zip(panels, lines.values(), strict=True):
        _rows_panel(axes, [line.label for line in of_model])
        for place in range(0, len(of_model), 2):
            axes.axhspan(place - 0.5, place + 0.5, color="0.96", zorder=0)
        for number, (region, offset) in enumerate(zip(regions, offsets, strict=True)):
            rows = [
                (place, line.by_region[region])
                for place, line in enumerate(of_model)
                if region in line.by_region
            ]
            axes.errorbar(
                [row.mean["roc_auc"] for _, row in rows],
                [place + offset for place, _ in rows],
                xerr=[row.std["roc_auc"] for _, row in rows],
                fmt=_MARKERS[number % len(_MARKERS)],
                color=_COLOURS[number % len(_COLOURS)],
                markersize=5,
                linewidth=1,
                label=region,
            )
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def _resolution(summary: Sequence[SummaryRow]) -> Any:
    rows = [row for row in summary if row.region == TRUTH and row.facts.layer]
    figure, panels = _panels(rows, [3.6] * len(models_of(rows)), 8.5)
    for axes, name in zip(panels, models_of(rows), strict=True):
        lines: dict[tuple[str, str], list[SummaryRow]] = defaultdict(list)
        for row in rows:
            if row.model == name:
                lines[row.facts.method, row.facts.setting].append(row)
        for number, ((method, setting), of_line) in enumerate(lines.items()):
            _draw_layers(axes, ", ".join(filter(None, (method, setting))), of_line, number)
        axes.set_xscale("log")
        groups = _alike([row.facts.cell_mm for row in rows if row.model == name])
        sizes = [float(np.mean(group)) for group in groups]
        axes.set_xticks(sizes, [f"{size:.2g}" for size in sizes], fontsize=9)
        axes.minorticks_off()
        axes.axhline(0.5, color="black", linewidth=0.8)
        axes.grid(color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel("side of a layer's cell, mm", fontsize=9)
        axes.set_ylabel("in-brain ROC-AUC (0.5: chance)", fontsize=9)
        axes.legend(frameon=False, fontsize=8.5, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _draw_layers(axes: Any, label: str, rows: Sequence[SummaryRow], number: int) -> None:
    """Each layer as a point with its deviation, and a line through the means of cells of like size."""
    colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
    if rows[0].facts.method == BENCHMARKED["cam"]:
        colour, marker = "black", "*"
    shift = 1.012 ** (number - 1.5)  # so that the methods' deviations lie side by side
    x = np.array([row.facts.cell_mm for row in rows])
    y = np.array([row.mean["roc_auc"] for row in rows])
    axes.errorbar(
        x * shift,
        y,
        yerr=[row.std["roc_auc"] for row in rows],
        fmt=marker,
        color=colour,
        markersize=11 if marker == "*" else 4.5,
        linewidth=0.8,
        alpha=0.75,
        label=label,
    )
    groups = _alike(x)
    axes.plot(
        [np.mean(group) * shift for group in groups],
        [y[np.isin(x, group)].mean() for group in groups],
        color=colour,
        linewidth=1.5,
    )


def _alike(sizes: Sequence[float]) -> list[list[float]]:
    """The distinct sizes in rising order; those that differ by less than a quarter together."""
    groups: list[list[float]] = []
    for size in np.unique(sizes).tolist():
        if groups and size < 1.25 * groups[-1][-1]:
            groups[-1].append(size)
        else:
            groups.append([size])
    return groups
