"""Random hierarchies: ``st.from_type(Hierarchy)`` draws one."""

import numpy as np
import pytest
from hypothesis import strategies as st

from napari_cnnvis.ucm.hierarchy import Hierarchy

SHAPE = (5, 4, 6)


@st.composite
def hierarchies(draw):
    """One tree or a forest, of two or more children a node, with ties between altitudes.

    There are up to 179 nodes, more than an int8 holds.
    """
    n = draw(st.integers(1, 90))
    n_tops = draw(st.just(1) | st.integers(1, n))
    most = draw(st.sampled_from([2, 4]))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    rest = rng.integers(draw(st.integers(0, 1)), n + 1, 120 - n)
    leaves = rng.permutation(np.concatenate([np.arange(n) + 1, rest])).reshape(SHAPE)
    parents, altitudes, tops = list(range(n)), [0.0] * n, list(range(n))
    while len(tops) > n_tops:
        count = min(int(rng.integers(2, most + 1)), len(tops) - n_tops + 1)
        new = len(parents)
        for child in rng.choice(tops, count, replace=False):
            parents[child] = new
            tops.remove(child)
        parents.append(new)
        tops.append(new)
        altitudes.append(altitudes[-1] + 0.1 * float(rng.integers(0, 3)))
    counts = {max(len(tops), c) for c in (n, n // 3, 2)}
    return Hierarchy.from_tree(
        leaves.astype(np.int32), np.array(parents), np.array(altitudes), sorted(counts)
    )


st.register_type_strategy(Hierarchy, hierarchies())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.fixture
def labels():
    """Three levels, fine to coarse, the finest with 12 regions; levels first."""
    finest = np.arange(24).reshape(2, 3, 4) // 2
    return np.stack([finest, finest // 2, finest // 6])


@pytest.fixture
def hierarchy(labels):
    return Hierarchy.from_levels(np.where(labels[0] == 11, 99, labels), background=99)
