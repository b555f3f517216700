"""Which regions go through the network together, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_cnnvis.explain.scoring.incremental.classify import Program
from napari_cnnvis.explain.scoring.incremental.operations import Box, Whole, Windowed
from napari_cnnvis.explain.scoring.incremental.trace import shape_of

__all__ = ["Cones", "cones_of", "make_batches"]

#: moving one number in memory takes as long as this many multiply-adds of a convolution
_MOVING = 30.0
#: starting one operation takes as long as this many multiply-adds
_STARTING = 2e7
#: regions that a batch may have at most
_LARGEST_BATCH = 256


@dataclass(frozen=True, eq=False)
class Cones:
    """How many positions of each operation's output each region can change.

    Attributes
    ----------
    sizes : array, int64, shape (n, operations, 3)
        Size of the box; the whole grid where whole maps are computed.
    work, moved : arrays, shape (operations,)
        Multiply-adds and bytes for each position.
    """

    sizes: np.ndarray
    work: np.ndarray
    moved: np.ndarray

    def multiply_adds(self) -> np.ndarray:
        """Multiply-adds for each region alone, shape (n,)."""
        return self.sizes.prod(axis=2, dtype=np.float64) @ self.work

    def cost(self, members: np.ndarray) -> float:
        """Time for members that share one box size, in multiply-adds."""
        largest = self.sizes[members].max(axis=0).prod(axis=1, dtype=np.float64)
        each = largest @ (self.work + self.moved * (_MOVING / 4))
        return each * len(members) + _STARTING * len(self.work)

    def bytes(self, members: np.ndarray) -> float:
        """Bytes of the largest result for one region."""
        return float(
            (self.sizes[members].max(axis=0).prod(axis=1, dtype=np.float64) * self.moved).max()
        )


def cones_of(program: Program, boxes: Box, itemsize: int = 4) -> Cones:
    """Follow the boxes of n regions through the network.

    Parameters
    ----------
    program : Program
    boxes : (low, high), int arrays of shape (n, 3)
        Of the input.
    itemsize : int
        Bytes of a number.
    """
    known: dict = {program.trace.input: boxes}
    sizes: list[np.ndarray] = []
    work: list[float] = []
    moved: list[float] = []
    for operation in program.operations:
        box = operation.box([known[s] for s in operation.sources])
        if box is not None:
            known[operation.node] = box
            sizes.append(box[1] - box[0])
            work.append(operation.work)
            held = float(operation.channels)
            if isinstance(operation, Windowed):  # the gathered input, too
                source = operation.sources[0]
                held += operation.forms[source].n_channels(shape_of(source)) * float(
                    operation.window.stride.prod()
                )
            moved.append(held * itemsize)
        elif isinstance(operation, Whole) and operation.work:
            sizes.append(np.ones_like(boxes[0]))
            work.append(operation.work)
            moved.append(0.0)
    if not sizes:  # nothing that takes time
        sizes, work, moved = [np.ones_like(boxes[0])], [0.0], [0.0]
    return Cones(np.stack(sizes, axis=1), np.array(work), np.array(moved))


def make_batches(cones: Cones, budget: float) -> list[np.ndarray]:
    """Put regions of like cones together, so that a batch computes little more than it has to.

    A set of regions is halved along the axis in which that saves most, as long as it
    saves more than starting another batch costs (a cost model in multiply-adds).

    Parameters
    ----------
    cones : Cones
    budget : float
        Bytes that the largest result of a batch may take.

    Returns
    -------
    list of int arrays
        Indices of the regions, the largest first.
    """
    n = len(cones.sizes)
    _, kind = np.unique(cones.sizes.reshape(n, -1), axis=0, return_inverse=True)
    order = np.argsort(kind.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(kind.ravel()))
    groups = np.split(order, ends[:-1])  # regions whose cones are exactly alike
    heaviest = int(np.argmax(cones.sizes.astype(float).prod(axis=2).mean(axis=0) * cones.work))
    axes = [(step, axis) for step in {0, heaviest} for axis in range(3)]
    batches = []
    for group in _split(cones, groups, axes):
        members = np.concatenate(group)
        size = int(np.clip(budget // max(cones.bytes(members), 1), 1, _LARGEST_BATCH))
        batches += [members[i : i + size] for i in range(0, len(members), size)]
    weight = cones.multiply_adds()
    return sorted(batches, key=lambda batch: -weight[batch].max())


def _split(
    cones: Cones, groups: list[np.ndarray], axes: list[tuple[int, int]]
) -> list[list[np.ndarray]]:
    done, waiting = [], [groups]
    while waiting:
        group = waiting.pop()
        together = cones.cost(np.concatenate(group))
        best = None
        for step, axis in axes if len(group) > 1 else ():
            length = np.array([cones.sizes[g[0], step, axis] for g in group])
            order = np.argsort(length, kind="stable")
            sorted_length = length[order]
            cuts = np.flatnonzero(np.diff(sorted_length)) + 1
            if not len(cuts):
                continue
            cut = cuts[np.argmin(np.abs(cuts - len(group) / 2))]
            parts = [[group[i] for i in order[:cut]], [group[i] for i in order[cut:]]]
            apart = sum(cones.cost(np.concatenate(p)) for p in parts)
            if best is None or apart < best[0]:
                best = apart, parts
        if best is not None and best[0] < together:
            waiting += best[1]
        else:
            done.append(group)
    return done
