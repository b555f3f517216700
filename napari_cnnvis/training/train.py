"""Cross-validated training of a classifier on a study: from metadata.csv to checkpoints."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from napari_cnnvis.errors import MethodError, VolumeError
from napari_cnnvis.progress import Progress
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.training.conformed import ConformedScans
from napari_cnnvis.training.fold_run import RESULT, FoldJob, Hardware, run_fold
from napari_cnnvis.training.folds import Fold, make_folds
from napari_cnnvis.training.recipes import Recipe
from napari_cnnvis.training.report import WRITTEN, write_fold_files, write_report
from napari_cnnvis.training.start_networks import NetworkPlan
from napari_cnnvis.training.study import Study
from napari_cnnvis.writing import atomic_path, check_folder

__all__ = ["TrainingPlan", "train"]

_SETTINGS = "settings.json"
#: set by Lightning in the processes of several devices
_RANK = "LOCAL_RANK"


@dataclass(frozen=True, eq=False)
class TrainingPlan:
    """What to train, on what, and where the results go.

    Attributes
    ----------
    study : Study
    network : NetworkPlan
    recipe : Recipe
    folder : path-like
        Gets a folder for each fold, the conformed scans and the report.
    spec : InputSpec
        How scans are brought to the network; where it says no shape, the network's own.
    folds, repeats, seed : int
    only : sequence of str
        Names of folds to train, such as "repeat-1-fold-2"; all by default.
    hardware : Hardware
    cache : path-like, optional
        Where the conformed scans are kept; in the folder by default.
    """

    study: Study
    network: NetworkPlan
    recipe: Recipe
    folder: str | os.PathLike
    spec: InputSpec = InputSpec()  # noqa: RUF009
    folds: int = 5
    repeats: int = 5
    seed: int = 0
    only: Sequence[str] = ()
    hardware: Hardware = Hardware()  # noqa: RUF009
    cache: str | os.PathLike | None = None

    def settings(self) -> dict[str, Any]:
        """All that decides on the results, as plain values."""
        network = {key: value for key, value in vars(self.network).items() if key != "trust"}
        return json.loads(
            json.dumps(
                {
                    "scans": [[str(s.path), s.label, s.subject] for s in self.study.scans],
                    "classes": self.study.class_names,
                    "network": network,
                    "recipe": self.recipe.to_dict(),
                    "input": self.spec.to_dict(),
                    "folds": self.folds,
                    "repeats": self.repeats,
                    "seed": self.seed,
                    "precision": self.hardware.precision,
                }
            )
        )


def train(
    plan: TrainingPlan,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
) -> dict[str, tuple[float, float]] | None:
    """Train and test the folds that are not finished yet, and write the report.

    Called again after an interruption of any kind, it goes on from the last whole epoch.
    Several processes may work on one folder: each takes folds that no other one has.

    Parameters
    ----------
    plan : TrainingPlan
    progress : callable, optional
        Steps are hundredths of epochs, over all folds.
    cancel : threading.Event, optional

    Returns
    -------
    dict or None
        Mean and standard deviation of each metric over the finished folds; None if it
        was cancelled, or if other processes still work on folds.

    Raises
    ------
    StudyProblems
        If scans cannot be trained on; all of them are named, before anything is trained.
    MethodError
        If the folder holds results of other settings, a fold does not exist, or the
        network or recipe do not fit.
    VolumeError
        If the folder cannot be written to.
    """
    shape = plan.network.required_shape
    if plan.spec.shape is None and shape is not None:
        plan = replace(plan, spec=replace(plan.spec, shape=shape))
    folds = make_folds(
        plan.study.labels,
        plan.study.subjects,
        plan.folds,
        plan.repeats,
        plan.seed,
        plan.recipe.validation,
    )
    chosen = _chosen(folds, plan.only)
    folder = Path(plan.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise VolumeError(f"Cannot make the folder {folder}: {exc.strerror}.") from exc
    inputs = [plan.study.table, plan.network.start_from]
    check_folder(folder, WRITTEN, inputs, own=(folder / _SETTINGS).is_file())
    with FileLock(folder / ".settings.lock"):
        _check_settings(folder / _SETTINGS, plan.settings())
    cache = folder / "conformed" if plan.cache is None else plan.cache
    scans = ConformedScans.prepare(plan.study, plan.spec, cache, progress, cancel)
    if scans is None:
        return None
    for position, fold in enumerate(chosen):
        if cancel is not None and cancel.is_set():
            return None
        place = folder / fold.name
        place.mkdir(exist_ok=True)
        try:
            with _sole_worker(place):
                if not (place / RESULT).exists():
                    job = _job(plan, fold, place, scans)
                    report = _reporter(progress, fold, position, len(chosen), plan.recipe.epochs)
                    result = run_fold(job, report, cancel)
                    if result is None:
                        return None
                    if result:
                        write_fold_files(place, plan.study, result)
        except Timeout:  # another process has it
            continue
    if _RANK in os.environ and os.environ[_RANK] != "0":
        return None
    finished = [fold for fold in folds if (folder / fold.name / RESULT).exists()]
    with FileLock(folder / ".report.lock"):
        summary = write_report(folder, plan.study, [folder / fold.name for fold in finished])
    return summary if len(finished) >= len(chosen) else None


def _sole_worker(place: Path) -> AbstractContextManager:
    """The fold's lock; processes that Lightning started for further devices share the first one's."""
    if os.environ.get(_RANK, "0") != "0":
        return nullcontext()
    return FileLock(place / ".lock", timeout=0)


def _chosen(folds: list[Fold], only: Sequence[str]) -> list[Fold]:
    by_name = {fold.name: fold for fold in folds}
    unknown = [name for name in only if name not in by_name]
    if unknown:
        raise MethodError(
            f"There is no fold '{unknown[0]}'; they are called {folds[0].name} to {folds[-1].name}."
        )
    return [by_name[name] for name in only] or folds


def _check_settings(file: Path, settings: dict[str, Any]) -> None:
    if not file.exists():
        with atomic_path(file) as temporary:
            temporary.write_text(json.dumps(settings, indent=1))
        return
    try:
        before = json.loads(file.read_text())
    except ValueError as exc:
        raise MethodError(f"{file} is damaged; choose another folder for the results.") from exc
    changed = [
        f"{name} ({_brief(before.get(name))} then, {_brief(value)} now)"
        for name, value in settings.items()
        if before.get(name) != value
    ]
    if changed:
        raise MethodError(
            f"{file.parent} holds results of other settings: {'; '.join(changed)}. Choose another "
            "folder, or give the same settings to go on."
        )


def _brief(value: Any) -> str:
    if isinstance(value, list) and len(value) > 5:
        return f"{len(value)} of them"
    return json.dumps(value)


def _job(plan: TrainingPlan, fold: Fold, place: Path, scans: ConformedScans) -> FoldJob:
    return FoldJob(
        fold=fold,
        folder=place,
        scans=scans,
        labels=plan.study.labels,
        class_names=plan.study.class_names,
        spec=scans.spec,
        recipe=plan.recipe,
        build=lambda scans: plan.network.make(scans, plan.recipe.initialise),
        arch=plan.network.arch,
        seed=plan.seed,
        hardware=plan.hardware,
        record={
            "table": plan.study.table.name,
            "seed": plan.seed,
            "folds": plan.folds,
            "repeats": plan.repeats,
            "precision": plan.hardware.precision,
            "start_from": Path(plan.network.start_from).name,
            "frozen": list(plan.network.freeze),
        },
    )


def _reporter(
    progress: Callable[[Progress], None] | None, fold: Fold, position: int, total: int, epochs: int
) -> Callable[[int, float, dict[str, float]], None] | None:
    if progress is None:
        return None

    def report(epoch: int, share: float, figures: dict[str, float]) -> None:
        known = [f"{name} {value:.3f}" for name, value in figures.items() if name != "epoch"]
        what = ", ".join([f"{fold.name}: epoch {epoch + 1} of {epochs}", *known])
        done = round(100 * (position * epochs + epoch + share))
        progress(Progress(done, 100 * total * epochs, what))

    return report
