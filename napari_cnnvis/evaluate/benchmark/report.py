"""A benchmark's summary as tables: one to compute with, one to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from napari_cnnvis.evaluate.benchmark.rows import METRICS, write_csv
from napari_cnnvis.evaluate.benchmark.summary import (
    GRADIENT_NAMES,
    SummaryRow,
    common_settings,
    headlines,
    models_of,
    regions_of,
)
from napari_cnnvis.evaluate.benchmark.table import TRUTH
from napari_cnnvis.writing import atomic_path

__all__ = ["WRITTEN", "markdown", "write_report"]

_NOTE = """\
Mean ± standard deviation over {n} scan(s), inside the brain; maps are signed. ROC-AUC 0.5 is
chance, and below it a map is upside down. Chance is {share:.3f} (the truth's share of the brain) for
average precision, mass and rank accuracy and, without a tolerance, for the pointing hit, and
{dice:.3f} for Dice. The threshold of the best Dice, and a layer that is called best, are chosen with
the truth, which is optimistic. Seconds are those of the run that gave the map, which may give others
as well (all layers of Grad-CAM and its variants, baselines, joins).
"""


#: the files of a benchmark's folder, beside the rows
WRITTEN = (
    *("scores.csv", "summary.csv", "summary.md"),
    *(f"{n}{end}" for n in ("localisation", "resolution", "regions") for end in (".png", ".svg")),
)


def write_report(summary: Sequence[SummaryRow], folder: Path) -> None:
    """Write ``summary.csv`` and ``summary.md`` into a folder.

    Raises
    ------
    VolumeError
        If they cannot be written.
    """
    names = (*METRICS, "share")
    facts = ("method", "setting", "layer", "recommended", "cells", "cell_mm")
    columns = [f"{name}_{what}" for name in names for what in ("mean", "std")]
    header = ["model", *facts, "region", "n", *columns, "seconds_mean"]
    lines = [
        [
            row.model,
            *(getattr(row.facts, name) for name in facts),
            row.region,
            row.n,
            *(values[name] for name in names for values in (row.mean, row.std)),
            row.facts.seconds,
        ]
        for row in summary
    ]
    write_csv(folder / "summary.csv", header, lines)
    with atomic_path(folder / "summary.md") as temporary:
        temporary.write_text(markdown(summary), encoding="utf-8")


def markdown(summary: Sequence[SummaryRow]) -> str:
    """The tables for people: for each network the methods, the regions, and the layers."""
    return "\n".join(line for name in models_of(summary) for line in _of_model(summary, name))


def _of_model(summary: Sequence[SummaryRow], model: str) -> Iterator[str]:
    lines = headlines(summary, model)
    share = lines[0].truth.mean["share"]
    most = max(line.truth.n for line in lines)
    yield f"## {model}\n"
    yield _NOTE.format(n=most, share=share, dice=2 * share / (1 + share))
    yield from _table(
        ["method", *METRICS.values(), "seconds"],
        [
            [
                line.label + ("" if line.truth.n == most else f" ({line.truth.n} scans)"),
                *(_value(line.truth, name) for name in METRICS),
                f"{line.truth.facts.seconds:.3g}",
            ]
            for line in lines
        ],
    )
    for method, parts in common_settings(summary, model).items():
        if parts:
            yield f"- {method}: {', '.join(parts)}"
    regions = regions_of(summary)
    if len(regions) > 1:
        yield f"\n### {model}: ROC-AUC against each region\n"
        yield from _table(
            ["method", *regions],
            [
                [line.label, *(_value(line.by_region.get(region), "roc_auc") for region in regions)]
                for line in lines
            ],
        )
    yield from _layers(
        [row for row in summary if row.model == model and row.region == TRUTH], model
    )


def _layers(summary: Sequence[SummaryRow], model: str) -> Iterator[str]:
    """ROC-AUC of every layer against the truth, with the size of its cells."""
    found = {
        (row.facts.method, row.facts.setting, row.facts.layer): row
        for row in summary
        if row.facts.method in GRADIENT_NAMES
    }
    methods = [name for name in GRADIENT_NAMES if any(name == method for method, _, _ in found)]
    for setting in dict.fromkeys(setting for _, setting, _ in found):
        layers = {key[2]: row.facts for key, row in found.items() if key[1] == setting}
        yield f"\n### {model}: ROC-AUC of each layer{f', {setting}' if setting else ''}\n"
        yield from _table(
            ["layer", "cells", "mm", *methods],
            [
                [
                    f"{layer} (recommended)" if facts.recommended else layer,
                    facts.cells,
                    f"{facts.cell_mm:.3g}",
                    *(_value(found.get((name, setting, layer)), "roc_auc") for name in methods),
                ]
                for layer, facts in layers.items()
            ],
        )
    yield ""


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterator[str]:
    for line in (header, ["---"] * len(header), *lines):
        yield f"| {' | '.join(line)} |"


def _value(row: SummaryRow | None, name: str) -> str:
    return "" if row is None else f"{row.mean[name]:.2f} ± {row.std[name]:.2f}"
