"""Training and testing on one fold; interrupted at any moment, it goes on from its last epoch."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn

from napari_cnnvis.errors import ComputeError
from napari_cnnvis.models.checkpoint import save_model
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.steps.text import last_orientation
from napari_cnnvis.training.batches import BalancedSampler, ScanDataset, loader
from napari_cnnvis.training.folds import Fold
from napari_cnnvis.training.metrics import classification_metrics
from napari_cnnvis.training.recipes import Recipe
from napari_cnnvis.training.task import ClassifierTask
from napari_cnnvis.training.weights.calibrate import Calibration
from napari_cnnvis.training.weights.last_layer import Features, refit
from napari_cnnvis.training.weights.normalise import Normalised
from napari_cnnvis.writing import atomic_path

__all__ = ["NETWORK", "RESULT", "FoldJob", "Hardware", "run_fold"]

#: files of a fold's folder
NETWORK, RESULT = "network.safetensors", "result.json"
#: what training goes on from, and the epoch with the smallest validation loss
_LAST, _BEST = "last.ckpt", "best.ckpt"


@dataclass(frozen=True)
class Hardware:
    """Where to train.

    Attributes
    ----------
    accelerator : str
        "auto", "cpu", "gpu", ... as Lightning calls them.
    devices : int or str
        How many, or "auto".
    precision : {"single", "mixed"}
    workers : int
        Processes that read scans; 0 reads them in this one.
    """

    accelerator: str = "auto"
    devices: int | str = 1
    precision: str = "single"
    workers: int = 0

    @property
    def lightning_precision(self) -> str:
        """What Lightning calls it: float16 on a GPU, bfloat16 on a CPU."""
        if self.precision == "single":
            return "32-true"
        gpu = self.accelerator in ("gpu", "cuda") or (
            self.accelerator == "auto" and torch.cuda.is_available()
        )
        return "16-mixed" if gpu else "bf16-mixed"


@dataclass(frozen=True, eq=False)
class FoldJob:
    """All that training on a fold needs.

    Attributes
    ----------
    fold : Fold
    folder : Path
        Holds the fold's files.
    scans : sequence of array
        Of the whole study, conformed.
    labels : sequence of int
    class_names : tuple of str
    spec : InputSpec
    recipe : Recipe
    build : callable
        Makes the network to begin with, given some scans (n, channels, i, j, k).
    arch : str
        How the network is made, "" for the built-in ones.
    seed : int
    hardware : Hardware
    record : dict
        What else goes into the checkpoint's training record.
    """

    fold: Fold
    folder: Path
    scans: Sequence[np.ndarray]
    labels: Sequence[int]
    class_names: tuple[str, ...]
    spec: InputSpec
    recipe: Recipe
    build: Callable[[Tensor], nn.Module]
    arch: str
    seed: int
    hardware: Hardware
    record: dict[str, Any]

    def batches(self, members: np.ndarray, sampler: BalancedSampler | None = None) -> Any:
        """The loader of some of the scans."""
        data = ScanDataset(self.scans, self.labels, members)
        return loader(data, self.recipe.batch, self.hardware.workers, sampler)


def run_fold(
    job: FoldJob,
    report: Callable[[int, float, dict[str, float]], None] | None = None,
    cancel: threading.Event | None = None,
) -> dict[str, Any] | None:
    """Train, choose the best epoch, test, and write the fold's files.

    Parameters
    ----------
    job : FoldJob
    report : callable, optional
        Called with the epoch (from 0), the share of it that is done, and the figures of
        the epoch before.
    cancel : threading.Event, optional
        Stops after the current step; the last whole epoch is kept, to go on from. So it
        is where SIGTERM ends the process, with the status 143.

    Returns
    -------
    dict or None
        The fold's result as in its ``result.json``, or None if it was cancelled; empty in
        the processes of all devices but the first.

    Raises
    ------
    ComputeError
        If the loss is no longer a number, or memory runs out.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(job.seed)
    network = job.build(_some_scans(job))
    trained = Normalised(network) if job.recipe.normalise else network
    sampler = BalancedSampler(
        [job.labels[m] for m in job.fold.train], job.seed, alternate=job.recipe.normalise
    )
    task = ClassifierTask(trained, job.recipe, job.seed, _left_right_axis(job.spec), sampler)
    if report is not None:
        task._report = lambda epoch, share: report(
            epoch, share, task.history[-1] if task.history else {}
        )
    validates = len(job.fold.validation) > 0
    # the best epoch's first, so that the last one's file knows it
    callbacks: list[Callback] = [_Guard(cancel)]
    if validates:
        callbacks.append(_every_epoch(job.folder / _BEST, "validation_loss"))
    callbacks.append(_every_epoch(job.folder / _LAST))
    if validates and job.recipe.patience:
        callbacks.append(EarlyStopping("validation_loss", patience=job.recipe.patience))
    last = job.folder / _LAST
    with _quiet():
        trainer = _trainer(job, callbacks)
        try:
            trainer.fit(
                task,
                job.batches(job.fold.train, sampler),
                job.batches(job.fold.validation) if validates else None,
                ckpt_path=last if last.exists() else None,
                weights_only=True,
            )
        except _Stopped:
            return None
        except SIGTERMException as exc:  # a SystemExit of status 0
            if cancel is None or not cancel.is_set():
                raise SystemExit(128 + signal.SIGTERM) from exc
            return None
        except RuntimeError as exc:
            if cancel is not None and cancel.is_set():  # the signal ended workers, too
                return None
            raise ComputeError(
                f"Training stopped in epoch {task.current_epoch + 1}: {str(exc).splitlines()[0]} If "
                "memory ran out, take a smaller --batch; the same command goes on from the last "
                "whole epoch."
            ) from exc
        if not trainer.is_global_zero:
            return {}
        chosen = job.folder / (_BEST if validates else _LAST)
        kept = torch.load(chosen, weights_only=True, map_location="cpu")
        task.load_state_dict(kept["state_dict"])
    finished = trained.fold() if isinstance(trained, Normalised) else network
    return _finish(job, finished.eval(), task.history, len(kept["history"]))


def _finish(
    job: FoldJob, network: nn.Module, history: list[dict[str, float]], epoch: int
) -> dict[str, Any]:
    """Calibrate, test and write; the result comes last, so that a fold with one is complete."""
    calibration, strength = None, None
    if len(job.fold.validation):
        if job.recipe.refit:
            train, validation = _features(job, network, "train", "validation")
            strength = refit(network, train, validation)
        if job.recipe.calibrate:
            (validation,) = _features(job, network, "validation")
            calibration = Calibration.of(validation.logits, validation.labels)
            calibration = calibration if calibration.fold_into(network) else None
    (test,) = _features(job, network, "test")
    logits, labels = test.logits, test.labels
    probabilities = logits.double().softmax(1).numpy()
    scores = classification_metrics(labels.numpy(), probabilities)
    record = {
        "recipe": job.recipe.to_dict(),
        "fold": job.fold.name,
        "best_epoch": epoch,
        "last_layer_refit": strength,
        "calibration": None if calibration is None else calibration.to_dict(),
        "training_scans": len(job.fold.train),
        "held_out_scans": len(job.fold.test),
        "held_out_accuracy": scores["accuracy"],
        "held_out_auc": scores["AUC"],
        **job.record,
    }
    save_model(
        network,
        job.folder / NETWORK,
        job.class_names,
        job.spec,
        record,
        arch=job.arch or None,
        overwrite=True,
    )
    result = {
        "fold": job.fold.name,
        "best epoch": epoch,
        "metrics": scores,
        "history": history,
        "test": [int(m) for m in job.fold.test],
        "probabilities": probabilities.tolist(),
    }
    with atomic_path(job.folder / RESULT) as temporary:
        temporary.write_text(json.dumps(result))
    for name in (_LAST, _BEST):
        (job.folder / name).unlink(missing_ok=True)
    return result


def _features(job: FoldJob, network: nn.Module, *parts: str) -> list[Features]:
    """Features and logits of parts of the fold, in single precision."""
    return [Features(network, job.batches(getattr(job.fold, part))) for part in parts]


def _some_scans(job: FoldJob) -> Tensor:
    members = job.fold.train[:: max(1, len(job.fold.train) // job.recipe.batch)]
    some = [np.array(job.scans[m]) for m in members[: job.recipe.batch]]
    return torch.from_numpy(np.stack(some))


def _trainer(job: FoldJob, callbacks: list[Callback]) -> lightning.Trainer:
    """Raises ComputeError where there is no such device."""
    try:
        return lightning.Trainer(
            accelerator=job.hardware.accelerator,
            devices=job.hardware.devices,
            precision=job.hardware.lightning_precision,
            max_epochs=job.recipe.epochs,
            callbacks=callbacks,
            plugins=[_AtomicFiles()],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=job.folder,
        )
    except (MisconfigurationException, ValueError) as exc:
        raise ComputeError(
            f"Cannot train on {job.hardware.devices} device(s) of '{job.hardware.accelerator}': "
            f"{str(exc).splitlines()[0]} Choose others with --accelerator and --devices."
        ) from exc


def _every_epoch(file: Path, monitor: str | None = None) -> ModelCheckpoint:
    """Keeps the last epoch, or the one with the smallest value of what is monitored."""
    return ModelCheckpoint(
        file.parent,
        file.stem,
        monitor=monitor,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )


def _left_right_axis(spec: InputSpec) -> int:
    letters = spec.orientation or last_orientation(spec.steps) or "RAS"
    return next(axis for axis, letter in enumerate(letters) if letter in "LR")


class _Guard(Callback):
    """Stops a run that was cancelled, or whose loss is no number any more."""

    def __init__(self, cancel: threading.Event | None) -> None:
        self._cancel = cancel

    def on_train_batch_end(
        self, trainer: lightning.Trainer, task: ClassifierTask, *_: Any, **__: Any
    ) -> None:
        if not np.isfinite(task._losses[-1]):
            raise ComputeError(
                f"The loss is {task._losses[-1]} in epoch {task.current_epoch + 1}: the learning "
                "rate is too high for this network, or scans hold huge values. Take a smaller "
                "--rate, or --intensity range."
            )
        if self._cancel is not None and self._cancel.is_set():
            raise _Stopped


class _Stopped(Exception):
    """The user cancelled."""


class _AtomicFiles(TorchCheckpointIO):
    """Checkpoints are written beside their place and moved there, so that a kill leaves the old one."""

    def save_checkpoint(self, checkpoint: dict, path: Any, storage_options: Any = None) -> None:
        with atomic_path(Path(path)) as temporary:
            torch.save(checkpoint, temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's hints and messages; errors pass."""
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
