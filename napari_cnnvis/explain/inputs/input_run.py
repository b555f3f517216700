"""A run of a method that gives each voxel of the input a value, sample by sample."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.inputs.score_gradient import ScoreGradient
from napari_cnnvis.explain.inputs.voxel_values import VoxelValues
from napari_cnnvis.explain.record import Record
from napari_cnnvis.models.model import Model
from napari_cnnvis.progress import Progress
from napari_cnnvis.scan.conform import Conformed
from napari_cnnvis.scan.volume import Scan, channels_of

__all__ = ["InputRun", "run_inputs"]


class InputRun:
    """What a method has to do with, and what it has found so far.

    Attributes
    ----------
    model : Model
    volume : Volume, or a sequence with one for each channel
    conformed : Conformed
    x : Tensor, shape (1, c, i, j, k)
        The scan as the network sees it.
    gradient : ScoreGradient
    found : dict
        What goes into the map's record.
    notes : list of str
    """

    def __init__(
        self,
        how: Any,
        model: Model,
        volume: Scan,
        target: int,
        progress: Callable[[Progress], None] | None,
        cancel: threading.Event | None,
    ) -> None:
        self.how, self.model, self.volume, self.target = how, model, volume, target
        self.conformed: Conformed = model.conform(volume)
        self.x = model.tensor(self.conformed.channels)
        self.gradient = ScoreGradient(model, target, how.score)
        self.found: dict[str, Any] = {}
        self.notes: list[str] = []
        self._progress, self._cancel = progress, cancel
        self._inside: np.ndarray | None = None

    @property
    def cancelled(self) -> bool:
        """Whether the run is to end with what it has."""
        return self._cancel is not None and self._cancel.is_set()

    def tell(self, done: int, total: int, values: Tensor) -> None:
        """Report that `done` of `total` passes are done, and the values until now."""
        if self._progress is not None:
            self._progress(
                Progress(done, total, "passes", lambda: self.attribution(values, partial=True))
            )

    def attribution(self, values: Tensor, partial: bool = False) -> Attribution:
        """The map of values (1, c, i, j, k) or (c, i, j, k) of the input, its channels added up."""
        signed = values.reshape(-1, *values.shape[-3:]).sum(0).float().cpu().numpy()
        reference = channels_of(self.volume)[0]
        kept = VoxelValues(self.conformed.back(signed), self._seen())
        record = Record.of_run(
            self.how, self.model, self.volume, self.conformed, self.target, **self.found
        )
        notes = list(self.notes)
        if self.gradient.through_cuts:
            notes.append(
                "The network's code cuts gradients off (no_grad or detach); this is the map without that."
            )
        if not kept.signed.any():
            notes.append(
                "The map is zero: the score's gradient is zero at the input, as where a probability is "
                "saturated. Choose the logit as score, or sensitivity."
            )
        return Attribution(
            kept.map(self.how.sign, self.how.smooth, reference.spacing),
            reference.affine,
            record,
            reference,
            partial=partial,
            notes=(*self.conformed.notes, *notes),
            voxels=kept,
        )

    def _seen(self) -> np.ndarray:
        """What the network sees of the scan."""
        if self._inside is None:
            ones = np.ones(self.conformed.data.shape, np.float32)
            self._inside = self.conformed.back(ones, 0) > 0.5
        return self._inside


def run_inputs(
    how: Any,
    model: Model,
    volume: Scan,
    target: int | str,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
) -> Attribution:
    """The map of an `InputMethod`.

    Raises
    ------
    MethodError
        If there is no such class, or no gradient gets to the input.
    ComputeError
        If the network cannot run or memory runs out.
    """
    run = InputRun(how, model, volume, model.class_index(target), progress, cancel)
    return run.attribution(*how.values(run))
