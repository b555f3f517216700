"""Which scans an epoch has, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

__all__ = ["BalancedSampler"]


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
