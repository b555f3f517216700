"""Arrays over a forest that is given by its parents.

A forest is an int64 array ``parents``: the node that each node merges into, a top
node being its own parent. Leaves come first and parents after their children.
"""

from __future__ import annotations

import higra as hg
import numpy as np

__all__ = ["LeafMeeting", "climb", "label_volume", "leaf_order", "sums_over_nodes", "tops"]


def tops(parents: np.ndarray) -> np.ndarray:
    """The nodes that merge into no other, int64."""
    return np.flatnonzero(parents == np.arange(len(parents)))


def sums_over_nodes(parents: np.ndarray, of_leaf: np.ndarray) -> np.ndarray:
    """Sum of the leaves' values under each node, shape (n_nodes,), of the values' type."""
    sums = hg.accumulate_sequential(_tree(parents), of_leaf, hg.Accumulators.sum)
    return sums[: len(parents)].astype(of_leaf.dtype, copy=False)


def climb(parents: np.ndarray, made: np.ndarray) -> np.ndarray:
    """For each node the highest node reached by going up as long as the parent is `made`.

    `made` is bool, shape (n_nodes,).
    """
    nodes = np.arange(len(parents))
    reached = np.where(made[parents], parents, nodes)
    while True:
        higher = reached[reached]  # each round doubles the steps
        if (higher == reached).all():
            return reached
        reached = higher


def leaf_order(parents: np.ndarray, leaf_counts: np.ndarray) -> np.ndarray:
    """Rank of each node's first leaf, in an order that keeps a node's leaves together."""
    tree = _tree(parents)
    parent = np.asarray(tree.parents(), dtype=np.int64)
    size = np.append(leaf_counts, leaf_counts[tops(parents)].sum())[: len(parent)]
    brothers = np.argsort(parent[:-1], kind="stable")[::-1]  # the root has none
    before = np.cumsum(size[brothers]) - size[brothers]
    eldest = np.append(True, np.diff(parent[brothers]) != 0)[: len(brothers)]
    within = np.zeros(len(parent), dtype=np.int64)
    within[brothers] = before - before[eldest][np.cumsum(eldest) - 1]
    first = hg.propagate_sequential_and_accumulate(tree, within, hg.Accumulators.sum)
    return first[: len(parents)].astype(np.int64, copy=False)


def label_volume(leaves: np.ndarray, n_nodes: int, node_of_leaf: np.ndarray) -> np.ndarray:
    """Label volume (int32, 1 .. n, 0 = background) of the level in which each leaf has a node."""
    used = np.zeros(n_nodes, dtype=bool)
    used[node_of_leaf] = True
    label_of_node = np.cumsum(used, dtype=np.int32)
    return np.append(np.int32(0), label_of_node[node_of_leaf])[leaves]


class LeafMeeting:
    """Where leaves meet: their lowest common ancestors, found in constant time each."""

    def __init__(self, parents: np.ndarray) -> None:
        self._tree = _tree(parents)
        self._tree.lowest_common_ancestor_preprocess()

    def nodes(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The node in which leaves `a` and `b` merge; n_nodes for those that never do."""
        return self._tree.lowest_common_ancestor(a.astype(np.int64), b.astype(np.int64))


def _tree(parents: np.ndarray) -> hg.Tree:
    """The forest as one tree; several tops get a root above them, node n_nodes."""
    top = tops(parents)
    if len(top) == 1:
        return hg.Tree(parents)
    root = len(parents)
    joined = np.append(parents, root)
    joined[top] = root
    return hg.Tree(joined)
