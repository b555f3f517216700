"""Batches of scans: which ones an epoch has, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

__all__ = ["BalancedSampler", "ScanDataset", "loader"]


class BalancedSampler(Sampler[int]):
    """As many scans of each class in an epoch; of larger classes others in every epoch.

    An epoch's order follows from the seed and the epoch alone, so that training that
    goes on after an interruption sees what it would have seen.

    Parameters
    ----------
    labels : sequence of int
        The class of each scan.
    seed : int
    alternate : bool
        Take the classes in turn, so that every batch has about as many of each.
    """

    def __init__(self, labels: Sequence[int], seed: int, alternate: bool = False) -> None:
        labels = np.asarray(labels)
        self._members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        self._size = min(len(members) for members in self._members)
        self._seed, self._alternate, self._epoch = seed, alternate, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._size * len(self._members)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self._seed, self._epoch))
        drawn = np.stack([random.permutation(m)[: self._size] for m in self._members], axis=1)
        order = drawn.reshape(-1)
        if not self._alternate:
            random.shuffle(order)
        return iter(order.tolist())


class ScanDataset(Dataset):
    """Pairs of a scan, float32 (channels, i, j, k), and its class.

    Parameters
    ----------
    scans : sequence of array
    labels : sequence of int
    members : sequence of int
        Which scans belong to the set.
    """

    def __init__(
        self, scans: Sequence[np.ndarray], labels: Sequence[int], members: Sequence[int]
    ) -> None:
        self._scans, self._members = scans, [int(m) for m in members]
        self.labels = [labels[m] for m in self._members]

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.from_numpy(np.array(self._scans[self._members[index]])), self.labels[index]

    def batch(self, indices: Sequence[int]) -> Tensor:
        """Some of the scans, (n, channels, i, j, k)."""
        return torch.stack([self[index][0] for index in indices])


def loader(
    data: ScanDataset, batch: int, workers: int, sampler: BalancedSampler | None = None
) -> DataLoader:
    """Batches of a set, in the sampler's order or its own."""
    return DataLoader(
        data,
        batch,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        # a batch of one scan has no variance for BatchNorm to divide by
        drop_last=sampler is not None and len(sampler) % batch == 1 and len(sampler) > 1,
    )
