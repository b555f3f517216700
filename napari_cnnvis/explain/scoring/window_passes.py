"""Score occlusions of a network on sliding windows: only the windows that a region touches."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from napari_cnnvis.explain.scoring.occlusions import Occlusions
from napari_cnnvis.models.model import Model
from napari_cnnvis.models.windows import window_slices

__all__ = ["WindowScorer"]


class WindowScorer:
    """A `RegionScorer` that is exact: a window without a replaced voxel says what it said before.

    Parameters
    ----------
    model : Model
        With ``input_spec.window``.
    clean : Tensor, shape (1, c, i, j, k)
        The volume.
    """

    def __init__(self, model: Model, clean: Tensor) -> None:
        self._clean, spec = clean, model.input_spec
        self._net = model.with_input_window_only()
        shape = tuple(clean.shape[2:])
        self._places = window_slices(shape, spec.window or shape, spec.overlap)
        self._low = np.array([[s.start for s in place] for place in self._places])
        self._high = np.array([[s.stop for s in place] for place in self._places])

    @cached_property
    def _outputs(self) -> np.ndarray:
        """Raw outputs of every window of the volume as it is, shape (n_windows, n_outputs)."""
        return np.concatenate([self._run(self._clean, place) for place in self._places])

    @property
    def clean_logits(self) -> np.ndarray:
        """For the volume as it is, float32, shape (n_outputs,)."""
        return self._outputs.mean(0)

    def passes(self, occlusions: Occlusions) -> int:
        """How many windows have to be run for all occlusions."""
        return sum(len(self._touched(box)) for box in occlusions.boxes)

    def full_passes(self, occlusions: Occlusions) -> int:
        """How many windows there are for all of them."""
        return len(self._places) * len(occlusions.boxes)

    def score(self, occlusions: Occlusions) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """See `RegionScorer.score`; in the given order.

        Raises
        ------
        ComputeError
            If the network fails, or memory runs out.
        """
        for member, box in enumerate(occlusions.boxes):
            x = self._clean.clone()
            voxels = torch.from_numpy(occlusions.voxels(member)).to(x.device)
            flat = x.view(x.shape[1], -1)
            flat[:, voxels] = torch.from_numpy(occlusions.values(member)).to(x.device, x.dtype)
            outputs = self._outputs.copy()
            for window in self._touched(box):
                outputs[window] = self._run(x, self._places[window])[0]
            yield np.array([member]), outputs.mean(0, keepdims=True)

    def _touched(self, box: np.ndarray) -> np.ndarray:
        return np.flatnonzero(((self._low < box[:, 1]) & (self._high > box[:, 0])).all(axis=1))

    def _run(self, x: Tensor, place: tuple[slice, ...]) -> np.ndarray:
        piece = self._net.arranged(x[(slice(None), slice(None), *place)])
        return self._net.logits(piece).float().cpu().numpy()
