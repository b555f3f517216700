"""What is left of training: predictions, metrics, ROC and learning curves."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_cnnvis.figure.page import own_settings
from napari_cnnvis.training.fold_run import RESULT
from napari_cnnvis.training.metrics import mean_and_deviation
from napari_cnnvis.training.study import Study
from napari_cnnvis.writing import atomic_path

__all__ = ["WRITTEN", "write_fold_files", "write_report"]

#: the files of a training's folder, beside the folds
WRITTEN = (
    *("predictions.csv", "metrics.csv"),
    *(f"{name}{ending}" for name in ("roc", "learning_curves") for ending in (".png", ".svg")),
)


def write_fold_files(folder: Path, study: Study, result: dict[str, Any]) -> None:
    """Write a fold's ``predictions.csv`` and ``learning_curves`` (PNG and SVG)."""
    _write_csv(folder / "predictions.csv", _predictions(study, result))
    _draw(folder / "learning_curves", lambda axes: _learning_curves(axes, [result]))


def write_report(
    folder: Path, study: Study, folds: Sequence[Path]
) -> dict[str, tuple[float, float]]:
    """Write what the finished folds say together; returns mean and deviation of each metric.

    ``predictions.csv`` has a row for each scan and repeat, ``metrics.csv`` one for each
    fold and their mean and standard deviation, ``roc`` and ``learning_curves`` (PNG and
    SVG) a thin line for each fold and a thick one for the mean.
    """
    results = [json.loads((place / RESULT).read_text()) for place in folds]
    if not results:
        return {}
    rows = [row for result in results for row in _predictions(study, result)]
    _write_csv(folder / "predictions.csv", rows)
    summary = mean_and_deviation([result["metrics"] for result in results])
    metrics = [
        {"fold": result["fold"], "best epoch": result["best epoch"], **result["metrics"]}
        for result in results
    ]
    for index, name in enumerate(("mean", "standard deviation")):
        metrics.append({"fold": name, **{key: value[index] for key, value in summary.items()}})
    _write_csv(folder / "metrics.csv", metrics, list(metrics[0]))
    labels = np.asarray(study.labels)
    if len(study.class_names) == 2:
        _draw(folder / "roc", lambda axes: _roc_curves(axes, results, labels, study.class_names[1]))
    _draw(folder / "learning_curves", lambda axes: _learning_curves(axes, results))
    return summary


def _predictions(study: Study, result: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for member, probabilities in zip(result["test"], result["probabilities"], strict=True):
        scan = study.scans[member]
        chosen = study.class_names[int(np.argmax(probabilities))]
        rows.append(
            {
                "fold": result["fold"],
                "Path": str(scan.path),
                "Subject": scan.subject,
                "Label": study.class_names[scan.label],
                "prediction": chosen,
                **{
                    f"p({name})": f"{p:.6g}"
                    for name, p in zip(study.class_names, probabilities, strict=True)
                },
            }
        )
    return rows


def _write_csv(
    path: Path, rows: Sequence[dict[str, Any]], columns: list[str] | None = None
) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns or list(rows[0]), restval="")
        writer.writeheader()
        writer.writerows(rows)


def _draw(path: Path, draw: Callable[[Any], None]) -> None:
    """Draw into axes and save as PNG and SVG."""
    with own_settings():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 4), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        for ending in (".png", ".svg"):
            with atomic_path(path.with_suffix(ending)) as temporary:
                figure.savefig(temporary, dpi=150, format=ending[1:])


def _roc_curves(
    axes: Any, results: list[dict[str, Any]], labels: np.ndarray, positive: str
) -> None:
    from sklearn.metrics import roc_curve

    grid = np.linspace(0, 1, 201)
    curves = []
    for result in results:
        truth = labels[result["test"]]
        if len(set(truth.tolist())) < 2:
            continue
        false, true, _ = roc_curve(truth, np.array(result["probabilities"])[:, 1])
        axes.plot(false, true, color="0.75", lw=0.8)
        curves.append(np.interp(grid, false, true))
        curves[-1][0] = 0
    mean, deviation = mean_and_deviation([result["metrics"] for result in results])["AUC"]
    if curves:
        label = f"mean of {len(curves)}: AUC {mean:.3f} ± {deviation:.3f}"
        axes.plot(grid, np.mean(curves, axis=0), color="tab:blue", lw=2, label=label)
    axes.plot([0, 1], [0, 1], color="0.5", lw=0.8, ls=":")
    axes.set(
        xlabel="1 - specificity",
        ylabel="sensitivity",
        title=f"ROC of '{positive}'",
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
        aspect="equal",
    )
    axes.legend(loc="lower right", frameon=False)


def _learning_curves(axes: Any, results: list[dict[str, Any]]) -> None:
    for name, colour in (("training loss", "tab:blue"), ("validation loss", "tab:orange")):
        curves = [
            (
                [one["epoch"] for one in r["history"]],
                [one.get(name, np.nan) for one in r["history"]],
            )
            for r in results
        ]
        if not any(np.isfinite(losses).any() for _, losses in curves):
            continue
        for number, (epochs, losses) in enumerate(curves):
            axes.plot(
                epochs,
                losses,
                color=colour,
                lw=1.5 if len(curves) == 1 else 0.7,
                alpha=1 if len(curves) == 1 else 0.6,
                marker="." if len(epochs) < 3 else None,
                label=name if number == 0 else None,
            )
    if len(results) == 1:
        best = results[0]["best epoch"]
        axes.axvline(best, color="0.5", lw=0.8, ls=":", label=f"epoch {best}, kept")
    axes.set(xlabel="epoch", ylabel="cross-entropy", ylim=(0, None))
    axes.legend(frameon=False)
