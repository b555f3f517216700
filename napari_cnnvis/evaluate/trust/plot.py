"""The plot behind a verdict."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np

from napari_cnnvis.evaluate.trust.deletion import Curves
from napari_cnnvis.evaluate.trust.measured import Measured
from napari_cnnvis.evaluate.trust.network_response import NetworkResponse
from napari_cnnvis.evaluate.trust.randomisation import Randomisation
from napari_cnnvis.evaluate.trust.verdict import RANDOMISED

__all__ = ["draw"]

# told apart by colour-blind people, on white and on black
_MAP, _EDGES, _BRAIN, _RANDOM = "#2f8fd8", "#e08a00", "#1aa179", "#8a8a8a"
_SIZE = 8.0
_SCORES = {
    "log_odds": "log-odds",
    "probability": "probability",
    "logit": "logit",
    "log_prob": "log-probability",
    "value": "value",
}


def draw(
    report: Measured,
    figure: Any,
    foreground: str = "black",
    background: str = "white",
    title: bool = True,
) -> None:
    """Draw what the tests measured into a matplotlib figure, which is cleared first.

    Readable from about 700 x 500 pixels at 100 dpi on.

    Parameters
    ----------
    report : TrustReport
    figure : matplotlib Figure
        Its size is left as it is.
    foreground, background : matplotlib colours
    title : bool
        Write the verdict above the plots.
    """
    figure.clear()
    figure.set_facecolor(background)
    top = 0.93
    if title:
        width = max(40, int(figure.get_figwidth() * 72 / (0.66 * (_SIZE + 1))))
        lines = textwrap.wrap(report.verdict, width)
        figure.text(
            0.5, 0.985, "\n".join(lines), ha="center", va="top", color=foreground,
            fontsize=_SIZE + 1, weight="bold", parse_math=False,
        )  # fmt: skip
        top -= 0.02 + len(lines) * 1.35 * (_SIZE + 1) / (72 * figure.get_figheight())
    grid = figure.add_gridspec(
        2, 2, left=0.085, right=0.985, top=top, bottom=0.16, hspace=0.5, wspace=0.22
    )
    right = grid[1, 1].subgridspec(1, 2, wspace=0.55)
    removal = report.removal
    cells = (grid[0, 0], grid[0, 1], grid[1, 0], right[0, 0], right[0, 1])
    titles = ("Deletion", "Insertion", "Random weights", "Response", "Edges")
    axes = [figure.add_subplot(cell) for cell in cells]
    for one, text in zip(axes, titles, strict=True):
        _dress(one, text, foreground, background)
    for one, kind in zip(axes[:2], ("deletion", "insertion"), strict=True):
        if removal is None:
            _nothing(one, foreground)
        else:
            _curves(one, getattr(removal, kind), _SCORES[removal.score])
    if removal is not None:
        _legend(axes[0], foreground, loc="upper right" if _falls(removal.deletion) else "best")
    if report.randomisation is None:
        _nothing(axes[2], foreground)
    else:
        _cascade(axes[2], report.randomisation, foreground)
    if report.response is None:
        _nothing(axes[3], foreground)
    else:
        _response(axes[3], report.response, foreground)
    if report.edges is None:
        _nothing(axes[4], foreground)
    else:
        axes[4].scatter(
            report.edges.edge_ranks, report.edges.map_ranks, s=1.5, color=_MAP, alpha=0.5,
            linewidths=0, rasterized=True,
        )  # fmt: skip
        axes[4].set(
            xlabel="edge strength (rank)", ylabel="map (rank)", xticks=(0, 1), yticks=(0, 1)
        )


def _dress(axes: Any, title: str, foreground: str, background: str) -> None:
    axes.set_facecolor(background)
    axes.set_title(title, fontsize=_SIZE + 1, color=foreground, loc="left", pad=4)
    axes.tick_params(colors=foreground, labelsize=_SIZE - 1, length=3)
    axes.xaxis.label.set(color=foreground, fontsize=_SIZE)
    axes.yaxis.label.set(color=foreground, fontsize=_SIZE)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(foreground)


def _nothing(axes: Any, foreground: str) -> None:
    axes.text(
        0.5, 0.5, "not run", ha="center", va="center", color=foreground, fontsize=_SIZE,
        transform=axes.transAxes,
    )  # fmt: skip
    axes.set(xticks=(), yticks=())


def _falls(curves: Curves) -> bool:
    return bool(curves.map[0] > curves.map[-1])


def _curves(axes: Any, curves: Curves, score: str) -> None:
    x = curves.fractions * 100
    low, high = curves.random.min(axis=0), curves.random.max(axis=0)
    label = f"{len(curves.random)} random orders"
    axes.fill_between(x, low, high, color=_RANDOM, alpha=0.35, linewidth=0, label=label)
    axes.plot(x, curves.random.mean(axis=0), color=_RANDOM, linewidth=1)
    axes.plot(x, curves.brain, color=_BRAIN, linewidth=1, linestyle=":", label="brain only")
    axes.plot(x, curves.edges, color=_EDGES, linewidth=1.2, linestyle="--", label="edges")
    axes.plot(x, curves.map, color=_MAP, linewidth=2, label="this map")
    done = "taken out" if curves.kind == "deletion" else "put back"
    axes.set(xlabel=f"% of the brain {done}", ylabel=score, xlim=(0, 100))


def _legend(axes: Any, foreground: str, **how: Any) -> None:
    axes.legend(
        fontsize=_SIZE - 1, frameon=False, labelcolor=foreground, handlelength=1.6,
        labelspacing=0.3, borderaxespad=0.2, **how,
    )  # fmt: skip


def _cascade(axes: Any, found: Randomisation, foreground: str) -> None:
    x = np.arange(len(found.rows) + 1)
    lines = (
        ("rank correlation", "spearman", _MAP, "o", "-"),
        ("of absolute values", "spearman_absolute", _BRAIN, ".", ":"),
        ("SSIM", "ssim", _EDGES, "s", "--"),
    )
    for label, name, colour, marker, style in lines:
        values = [getattr(row.similarity, name) for row in found.rows]
        y = [1.0, *(np.nan if value is None else value for value in values)]
        axes.plot(
            x, y, color=colour, linestyle=style, linewidth=1.2, marker=marker, markersize=3,
            label=label,
        )  # fmt: skip
    axes.axhline(RANDOMISED, color=foreground, linewidth=0.6, alpha=0.6)
    axes.axhline(0, color=foreground, linewidth=0.4, alpha=0.4)
    names = ["none", *(_short(row.layer) for row in found.rows)]
    axes.set_xticks(x, names, rotation=35, ha="right", rotation_mode="anchor")
    low = min(-0.05, *(line.min() for line in map(_finite, axes.lines)))
    axes.set(ylim=(max(-1.05, low - 0.05), 1.08), ylabel="like the map", xlabel="random down to")
    _legend(axes, foreground, loc="upper right")


def _finite(line: Any) -> np.ndarray:
    values = np.asarray(line.get_ydata(), float)
    return values[np.isfinite(values)]


def _short(name: str, length: int = 12) -> str:
    return name if len(name) <= length else "…" + name[-length + 1 :]


def _response(axes: Any, found: NetworkResponse, foreground: str) -> None:
    floor = 1e-6
    random = np.maximum(found.random, floor)
    axes.set_yscale("log")
    axes.scatter(np.linspace(-0.15, 0.15, len(random)), random, s=14, color=_RANDOM, linewidths=0)
    axes.scatter([1], [max(found.response, floor)], s=30, color=_MAP, linewidths=0, marker="D")
    axes.set_xticks((0, 1), ("random", "network"))
    axes.set(xlim=(-0.6, 1.6), ylabel="change of " + _SCORES[found.score])
    axes.minorticks_off()
    axes.tick_params(which="both", colors=foreground)
