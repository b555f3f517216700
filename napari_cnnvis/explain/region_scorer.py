"""Score occluded volumes: the one interface behind which sensitivity's work is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from napari_cnnvis.models.model import Model
from napari_cnnvis.models.running import OutOfMemory

__all__ = ["FullPassScorer", "RegionScorer"]

#: how much memory a batch may take on the CPU, in bytes; larger batches are no faster there
_CPU_BUDGET = 1_000_000_000
_LARGEST_BATCH = 32


class RegionScorer(Protocol):
    """Gives the network's logits for a volume with one region occluded, for many regions."""

    def score(self, regions: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Logits of all regions, in order, a few at a time.

        Parameters
        ----------
        regions : sequence of int arrays
            Flat voxel indices of each region on the model's grid.

        Yields
        ------
        array, float32, shape (n, n_classes)
            For the next n regions.
        """
        ...


class FullPassScorer:
    """Scores each region by a full forward pass, in batches that shrink when memory runs out.

    Parameters
    ----------
    model : Model
    clean, filled : Tensor, shape (1, 1, i, j, k)
        The volume, and the baseline that occluded voxels are taken from.
    batch_size : int, optional
        Regions to score at once; chosen from the free memory by default.
    """

    def __init__(
        self, model: Model, clean: Tensor, filled: Tensor, batch_size: int | None = None
    ) -> None:
        self._model = model
        self._clean = clean
        self._filled = filled.reshape(-1)
        self.batch_size = batch_size or self._affordable_batch()

    def _affordable_batch(self) -> int:
        shape = tuple(self._clean.shape[2:])
        needed = 3 * self._model.layers(shape).peak_bytes
        budget = _CPU_BUDGET
        if self._clean.device.type == "cuda":
            budget = torch.cuda.mem_get_info(self._clean.device)[0] // 2
        return int(np.clip(budget // max(needed, 1), 1, _LARGEST_BATCH))

    def score(self, regions: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """See `RegionScorer.score`.

        Raises
        ------
        ComputeError
            If the network fails, or memory runs out for a single region.
        """
        done = 0
        while done < len(regions):
            batch = regions[done : done + self.batch_size]
            try:
                logits = self._model.logits(self._occluded(batch))
            except OutOfMemory:
                if self.batch_size == 1:
                    raise
                self.batch_size //= 2
                if self._clean.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            done += len(batch)
            yield logits.float().cpu().numpy()

    def _occluded(self, regions: Sequence[np.ndarray]) -> Tensor:
        x = self._clean.reshape(-1).repeat(len(regions), 1)
        for row, region in zip(x, regions, strict=True):
            voxels = torch.from_numpy(region).to(x.device)
            row[voxels] = self._filled[voxels]
        return self._model.arranged(x.view(len(regions), *self._clean.shape[1:]))
