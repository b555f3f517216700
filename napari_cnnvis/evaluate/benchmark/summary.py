"""Means and deviations of a benchmark's scores over the scans, and which of them come first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from napari_cnnvis.evaluate.benchmark.options import BENCHMARKED, CONTROLS, GRADIENT
from napari_cnnvis.evaluate.benchmark.rows import METRICS, MapFacts, ScoreRow
from napari_cnnvis.evaluate.benchmark.table import TRUTH

__all__ = [
    "FAMILIES",
    "GRADIENT_NAMES",
    "Headline",
    "SummaryRow",
    "common_settings",
    "family_of",
    "headlines",
    "models_of",
    "regions_of",
    "summarise",
]

#: Grad-CAM and its variants, as they are called in tables
GRADIENT_NAMES = tuple(method.title for method in GRADIENT.values())
#: kinds of methods, and how they are called
FAMILIES = {
    "occlusion": "occlusion",
    "cam": "CAM",
    "gradient": "Grad-CAM and its variants",
    "control": "controls, which do not know the network",
}


@dataclass(frozen=True, eq=False)
class SummaryRow:
    """The scores of a method against a region, over the scans.

    Attributes
    ----------
    model : str
    facts : MapFacts
        ``seconds`` is the mean.
    region : str
    n : int
        Number of scans.
    mean, std : dict of str to float
        By the names in `METRICS`, and "share"; the deviation of the scans (n in the
        denominator).
    """

    model: str
    facts: MapFacts
    region: str
    n: int
    mean: dict[str, float]
    std: dict[str, float]


@dataclass(frozen=True, eq=False)
class Headline:
    """A line of the main table: a method, or its best or recommended layer.

    Attributes
    ----------
    label : str
        What it is called.
    by_region : dict of str to SummaryRow
    """

    label: str
    by_region: dict[str, SummaryRow]

    @property
    def truth(self) -> SummaryRow:
        """Against the region that is known to matter."""
        return self.by_region[TRUTH]


def summarise(rows: Iterable[ScoreRow]) -> list[SummaryRow]:
    """Mean and deviation over the scans of each model, method, setting, layer and region."""
    groups: dict[tuple[str, ...], list[ScoreRow]] = defaultdict(list)
    for row in rows:
        f = row.facts
        groups[row.model, f.method, f.setting, f.layer, row.region].append(row)
    return [_summary(group) for group in groups.values()]


def _summary(group: Sequence[ScoreRow]) -> SummaryRow:
    first = group[0]
    values = {name: [getattr(row.scores, name) for row in group] for name in (*METRICS, "share")}
    f = first.facts
    seconds = float(np.mean([row.facts.seconds for row in group]))
    facts = MapFacts(f.method, f.setting, f.layer, f.recommended, f.cells, f.cell_mm, seconds)
    return SummaryRow(
        first.model,
        facts,
        first.region,
        len(group),
        {name: float(np.mean(v)) for name, v in values.items()},
        {name: float(np.std(v)) for name, v in values.items()},
    )


def models_of(summary: Iterable[SummaryRow]) -> list[str]:
    """The models' names, in their order."""
    return list(dict.fromkeys(row.model for row in summary))


def regions_of(summary: Iterable[SummaryRow]) -> list[str]:
    """The regions' names, in their order."""
    return list(dict.fromkeys(row.region for row in summary))


def family_of(method: str) -> str:
    """The kind of method, of `FAMILIES`."""
    if method in GRADIENT_NAMES:
        return "gradient"
    if method in CONTROLS.values():
        return "control"
    return "cam" if method == BENCHMARKED["cam"] else "occlusion"


def common_settings(summary: Iterable[SummaryRow], model: str) -> dict[str, list[str]]:
    """For each method of a model, the parts of its settings that all its maps share."""
    settings: dict[str, list[list[str]]] = defaultdict(list)
    for row in summary:
        if row.model == model:
            settings[row.facts.method].append(row.facts.setting.split(", "))
    return {
        method: [part for part in parts[0] if part and all(part in other for other in parts)]
        for method, parts in settings.items()
    }


def headlines(summary: Sequence[SummaryRow], model: str) -> list[Headline]:
    """What the main table and figure of a model show, in the order of the methods.

    Of Grad-CAM and its variants, the recommended layer and the one with the highest ROC-AUC,
    which is chosen with the truth and says so.
    """
    common = common_settings(summary, model)
    maps: dict[tuple[str, str, str], dict[str, SummaryRow]] = defaultdict(dict)
    for row in summary:
        if row.model == model:
            maps[row.facts.method, row.facts.setting, row.facts.layer][row.region] = row
    lines, layered = [], defaultdict(list)
    for (method, setting, _), by_region in maps.items():
        own = [part for part in setting.split(", ") if part and part not in common[method]]
        if method in GRADIENT_NAMES:
            layered[method, tuple(own)].append(by_region)
        else:
            lines.append(Headline(", ".join([method, *own]), by_region))
    for (method, own), layers in layered.items():
        best = max(
            layers, key=lambda one: (one[TRUTH].mean["roc_auc"], one[TRUTH].facts.recommended)
        )
        for by_region in layers:
            facts, why = by_region[TRUTH].facts, []
            if facts.recommended:
                why.append("recommended")
            if by_region is best and len(layers) > 1:
                why.append(f"best of {len(layers)} layers")
            if why or len(layers) == 1:
                label = ", ".join([f"{method} {facts.layer}", *own])
                lines.append(Headline(f"{label} ({', '.join(why)})" if why else label, by_region))
    order = list(BENCHMARKED.values())
    return sorted(lines, key=lambda line: order.index(line.truth.facts.method))
