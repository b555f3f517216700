"""Checkpoints that were opened lately, by their content, so that coming back to one is instant."""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from napari_cnnvis.models.checkpoint import OpenedCheckpoint, open_checkpoint
from napari_cnnvis.models.doctor import CheckpointReport, report_on
from napari_cnnvis.models.model import Model
from napari_cnnvis.models.settings import Recipe, file_hash, remembered
from napari_cnnvis.progress import stop_if_cancelled

__all__ = ["CheckpointCache", "LoadedCheckpoint"]


@dataclass(frozen=True, eq=False)
class LoadedCheckpoint:
    """A model with the file's hash, what was said about it, and the doctor's report."""

    digest: str
    recipe: Recipe
    model: Model
    report: CheckpointReport

    def is_as(self, recipe: Recipe) -> bool:
        """Whether the model has all settings that a recipe gives."""
        model = self.model
        return (
            recipe.input_spec in (None, model.input_spec)
            and recipe.class_names in ((), model.names)
            and recipe.output in ("", model.outputs.kind)
            and recipe.scores in ("", model.scores)
            and recipe.extra in ({}, model.extra)
        )

    def with_recipe(self, recipe: Recipe) -> LoadedCheckpoint:
        """The same network, not copied, with the settings that a recipe gives.

        Raises
        ------
        CnnVisError
            If the network cannot have them.
        """
        old = self.model
        model = Model(
            old.module,
            recipe.class_names or old.names or None,
            recipe.input_spec or old.input_spec,
            str(old.device),
            old.architecture,
            old.training,
            output=recipe.output or old.outputs.kind,
            arch=old.arch,
            path=old.path,
            scores=recipe.scores or old.scores,
            extra=recipe.extra or old.extra,
            more_files=old.more_files,
        )
        given = replace(recipe, arch=self.recipe.arch, arch_by_user=self.recipe.arch_by_user)
        return LoadedCheckpoint(self.digest, given, model, report_on(None, model))


class CheckpointCache:
    """Keeps the networks of the last few checkpoints.

    Parameters
    ----------
    size : int
        How many.

    Attributes
    ----------
    tried : Recipe
        How the last checkpoint was taken, whether it could be loaded or not.
    """

    def __init__(self, size: int = 2) -> None:
        self._size, self.tried = size, Recipe()
        self._opened: OrderedDict[tuple[Any, ...], OpenedCheckpoint] = OrderedDict()
        self._lock = threading.Lock()

    def load(
        self,
        path: Path | Sequence[Path],
        recipe: Recipe | None = None,
        trust: bool = False,
        device: str = "auto",
        shape: tuple[int, int, int] | None = None,
        cancel: threading.Event | None = None,
    ) -> LoadedCheckpoint:
        """The model of a checkpoint.

        Parameters
        ----------
        path : Path or sequence of Path
            Of several, the further ones count instead of those of the recipe.
        recipe : Recipe, optional
            What is known of it; by default what was remembered for this content.
        trust, device
            As for `load_model`.
        shape : (int, int, int), optional
            Of the scan that the report's estimates are for.
        cancel : threading.Event, optional
            Give up at the next step.

        Raises
        ------
        CnnVisError
            As `load_model`.
        """
        path, *more = [path] if isinstance(path, Path) else path
        digest = file_hash(path, cancel)
        if recipe is None:
            recipe = remembered(digest)
        if more:
            recipe = replace(recipe, more_files=tuple(map(str, more)))
        self.tried = recipe
        files = [path, *(path.parent / file for file in recipe.more_files)]
        digests = [digest, *(file_hash(file, cancel) for file in files[1:])]
        opened = self._open(files, digests, recipe, trust)
        stop_if_cancelled(cancel, f"Loading {path.name}")
        model = opened.model(
            device,
            recipe.class_names or None,
            recipe.input_spec,
            recipe.output or None,
            recipe.scores or None,
            recipe.extra or None,
        )
        return LoadedCheckpoint(digest, recipe, model, report_on(opened, model, shape))

    def _open(
        self, files: list[Path], digests: list[str], recipe: Recipe, trust: bool
    ) -> OpenedCheckpoint:
        key = *digests, recipe.arch, recipe.arch_by_user, trust
        with self._lock:
            if key in self._opened:
                self._opened.move_to_end(key)
                return self._opened[key]
        opened = open_checkpoint(files, recipe.arch or None, trust, recipe.arch_by_user)
        with self._lock:
            self._opened[key] = opened
            while len(self._opened) > self._size:
                self._opened.popitem(last=False)
        return opened

    def clear(self) -> None:
        """Forget every network, so that its memory is free when nobody else holds it."""
        with self._lock:
            self._opened.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
