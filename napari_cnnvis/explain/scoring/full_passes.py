"""Score occluded volumes: the one interface behind which sensitivity's work is done."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from napari_cnnvis.errors import ComputeError
from napari_cnnvis.explain.scoring.occlusions import Occlusions
from napari_cnnvis.models.execution import OutOfMemory
from napari_cnnvis.models.model import Model

__all__ = ["FullPassScorer", "RegionScorer"]

#: how much memory a batch may take on the CPU, in bytes; larger batches are no faster there
_CPU_BUDGET = 1_000_000_000
_LARGEST_BATCH = 32


class RegionScorer(Protocol):
    """Gives the network's logits for a volume with some voxels replaced, many times.

    Attributes
    ----------
    clean_logits : array, float32, shape (n_classes,)
        For the volume as it is.
    """

    @property
    def clean_logits(self) -> np.ndarray: ...

    def score(self, occlusions: Occlusions) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Logits of all occlusions, a few at a time, large regions first.

        Yields
        ------
        members : array, int64, shape (n,)
            Which occlusions these are.
        logits : array, float32, shape (n, n_classes)
        """
        ...


class FullPassScorer:
    """Scores each occlusion by a full forward pass, in batches that shrink when memory runs out.

    Parameters
    ----------
    model : Model
    clean : Tensor, shape (1, c, i, j, k)
        The volume.
    batch_size : int, optional
        Regions to score at once; chosen from the free memory by default.
    """

    def __init__(self, model: Model, clean: Tensor, batch_size: int | None = None) -> None:
        self._model = model
        self._clean = clean
        self.batch_size = batch_size or self._affordable_batch()

    @cached_property
    def clean_logits(self) -> np.ndarray:
        """For the volume as it is, float32, shape (n_classes,)."""
        return self._model.logits(self._clean)[0].float().cpu().numpy()

    def _affordable_batch(self) -> int:
        i, j, k = self._clean.shape[2:]
        needed = 3 * self._model.layers((i, j, k)).peak_bytes
        budget = _CPU_BUDGET
        if self._clean.device.type == "cuda":
            budget = torch.cuda.mem_get_info(self._clean.device)[0] // 2
        return int(np.clip(budget // max(needed, 1), 1, _LARGEST_BATCH))

    def score(self, occlusions: Occlusions) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """See `RegionScorer.score`; in the given order.

        Raises
        ------
        ComputeError
            If the network fails, or memory runs out for a single region.
        """
        done, total = 0, len(occlusions.boxes)
        while done < total:
            members = np.arange(done, min(done + self.batch_size, total))
            try:
                logits = self._model.logits(self._occluded(occlusions, members))
            except OutOfMemory:
                if self.batch_size == 1:
                    raise
                self.batch_size //= 2
                if self._clean.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            except ComputeError:
                if len(members) == 1:
                    raise
                self.batch_size = 1  # a program may have been exported for one scan at a time
                continue
            done += len(members)
            yield members, logits.float().cpu().numpy()

    def _occluded(self, occlusions: Occlusions, members: np.ndarray) -> Tensor:
        n_channels = self._clean.shape[1]
        x = self._clean.reshape(1, n_channels, -1).repeat(len(members), 1, 1)
        for row, member in zip(x, members, strict=True):
            voxels = torch.from_numpy(occlusions.voxels(member)).to(x.device)
            row[:, voxels] = torch.from_numpy(occlusions.values(member)).to(x.device)
        return self._model.arranged(x.view(len(members), *self._clean.shape[1:]))
