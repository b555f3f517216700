import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cnnvis.errors import MethodError, VolumeError
from napari_cnnvis.ucm.hierarchy import Hierarchy

SHAPE = (4, 3, 5)


@st.composite
def nested_labels(draw, max_regions=12, max_levels=4):
    """Label volumes, fine to coarse; 0 may be a label."""
    n = draw(st.integers(1, max_regions))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    levels = [rng.integers(0, n, SHAPE)]
    for _ in range(draw(st.integers(0, max_levels - 1))):
        joined = rng.integers(0, max(1, draw(st.integers(1, max_regions))), n)
        levels.append(joined[levels[-1]])
        n = int(joined.max()) + 1
    return levels


@st.composite
def binary_trees(draw):
    """A hierarchy in which each node has two children, with ties between altitudes."""
    n = draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    leaves = np.zeros(SHAPE, np.int32)
    leaves.flat[: n + 20] = np.concatenate([np.arange(n), rng.integers(0, n, 20)]) + 1
    parents, altitudes, tops = list(range(n)), [0.0] * n, list(range(n))
    while len(tops) > 1:
        children = rng.choice(tops, 2, replace=False)
        new = len(parents)
        for child in children:
            parents[child] = new
            tops.remove(child)
        parents.append(new)
        tops.append(new)
        altitudes.append(altitudes[-1] + rng.integers(0, 2))
    return Hierarchy.from_tree(leaves, np.array(parents), np.array(altitudes), [n])


def same_partition(a, b):
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return pairs.shape[1] == len(np.unique(a)) == len(np.unique(b))


def nests(fine, coarse):
    pairs = np.unique(np.stack([fine.ravel(), coarse.ravel()]), axis=1)
    return pairs.shape[1] == len(np.unique(fine))


def mask_of_node(hierarchy, node):
    """By climbing from each leaf, as the definition says."""
    mask = np.zeros(hierarchy.leaves.shape, bool)
    for leaf in range(hierarchy.n_leaves):
        n = leaf
        while n != node and hierarchy.parents[n] != n:
            n = hierarchy.parents[n]
        if n == node:
            mask |= hierarchy.leaves == leaf + 1
    return mask


@given(nested_labels())
def test_levels_are_those_given(labels):
    hierarchy = Hierarchy.from_levels(labels)
    assert len(hierarchy.levels) == len(labels)
    for given_labels, level in zip(labels, hierarchy.levels, strict=True):
        assert same_partition(given_labels, hierarchy.label_volume(level))


@given(nested_labels())
def test_every_distinct_region_is_one_node(labels):
    regions = {(level == value).tobytes() for level in labels for value in np.unique(level)}
    assert Hierarchy.from_levels(labels).n_nodes == len(regions)


@given(nested_labels(), st.integers(0, 3))
def test_background_is_left_out(labels, value):
    background = labels[0] == value
    labels = [np.where(background, 99, level) for level in labels]
    if background.all():
        return
    hierarchy = Hierarchy.from_levels(labels, background=99)
    np.testing.assert_array_equal(hierarchy.leaves == 0, background)
    assert hierarchy.n_leaves == len(np.unique(labels[0])) - background.any()
    for level in hierarchy.levels:
        np.testing.assert_array_equal(hierarchy.label_volume(level) == 0, background)


@given(nested_labels() | binary_trees())
def test_cuts_nest_and_have_at_most_so_many_regions(made):
    hierarchy = made if isinstance(made, Hierarchy) else Hierarchy.from_levels(made)
    coarsest = int((hierarchy.parents == np.arange(hierarchy.n_nodes)).sum())
    cuts = {n: hierarchy.cut(n) for n in range(coarsest, hierarchy.n_leaves + 2)}
    for n, cut in cuts.items():
        assert cut.dtype == np.int32
        assert 1 <= cut.max() <= n
        np.testing.assert_array_equal(np.unique(cut[cut > 0]), np.arange(1, cut.max() + 1))
        np.testing.assert_array_equal(cut == 0, hierarchy.leaves == 0)
        assert all(nests(cut, coarser) for m, coarser in cuts.items() if m <= n)


@given(binary_trees())
def test_cuts_of_a_binary_tree_have_exactly_so_many_regions(hierarchy):
    for n in range(1, hierarchy.n_leaves + 1):
        assert hierarchy.cut(n).max() == n


@given(nested_labels())
def test_finest_cut_and_level_counts_give_the_levels_back(labels):
    hierarchy = Hierarchy.from_levels(labels)
    assert same_partition(hierarchy.cut(10**6), labels[0])
    for level in labels:
        assert same_partition(hierarchy.cut(len(np.unique(level))), level)


def test_cuts_do_not_part_what_one_level_joins():
    labels = np.arange(60).reshape(SHAPE)
    hierarchy = Hierarchy.from_levels([labels, labels // 3, labels // 15])
    counts = {hierarchy.cut(n).max() for n in range(4, 61)}
    assert counts == {60, 20, 4}


@given(nested_labels() | binary_trees())
def test_voxels_of_a_node_are_one_slice(made):
    hierarchy = made if isinstance(made, Hierarchy) else Hierarchy.from_levels(made)
    voxels, first, last = hierarchy.voxels()
    for node in range(hierarchy.n_nodes):
        expected = np.flatnonzero(mask_of_node(hierarchy, node))
        np.testing.assert_array_equal(np.sort(voxels[first[node] : last[node]]), expected)


@given(nested_labels() | binary_trees())
def test_leaf_counts(made):
    hierarchy = made if isinstance(made, Hierarchy) else Hierarchy.from_levels(made)
    for node in range(hierarchy.n_nodes):
        under = hierarchy.leaves[mask_of_node(hierarchy, node)]
        assert hierarchy.leaf_counts[node] == len(np.unique(under))


@given(nested_labels() | binary_trees())
def test_sizes_are_the_voxels_of_each_node(made):
    hierarchy = made if isinstance(made, Hierarchy) else Hierarchy.from_levels(made)
    expected = [mask_of_node(hierarchy, node).sum() for node in range(hierarchy.n_nodes)]
    np.testing.assert_array_equal(hierarchy.sizes, expected)


def test_voxels_on_another_grid():
    labels = np.arange(8).reshape(2, 2, 2)
    hierarchy = Hierarchy.from_levels([labels, labels // 4])
    cropped = hierarchy.leaves[:1]
    voxels, first, last = hierarchy.voxels(cropped)
    seen = [set(voxels[a:b].tolist()) for a, b in zip(first, last, strict=True)]
    assert seen == [{0}, {1}, {2}, {3}, set(), set(), set(), set(), {0, 1, 2, 3}, set()]


def test_repeated_levels_are_kept():
    labels = np.arange(8).reshape(2, 2, 2)
    hierarchy = Hierarchy.from_levels([labels, labels // 2, labels // 2, labels // 2])
    assert [len(np.unique(level)) for level in hierarchy.levels] == [8, 4, 4, 4]
    assert hierarchy.n_nodes == 12


@pytest.fixture
def labels():
    return np.arange(8).reshape(2, 2, 2)


def test_levels_that_do_not_nest_are_refused(labels):
    with pytest.raises(VolumeError, match="region 1 of level 0 is split on level 1"):
        Hierarchy.from_levels([labels // 4, labels % 2 * (labels > 4)])


def test_coarse_levels_that_do_not_nest_are_refused(labels):
    with pytest.raises(VolumeError, match="a region of level 1 is split on level 2"):
        Hierarchy.from_levels([labels, labels // 4, labels % 2])


@pytest.mark.parametrize(
    ("levels", "text"),
    [
        ([], "at least one level"),
        ([np.zeros((2, 2, 2), int), np.zeros((2, 2, 3), int)], r"Level 1 has shape \(2, 2, 3\)"),
        ([np.zeros((2, 2), int)], "3D"),
        ([np.zeros((2, 2, 2))], "Level 0 holds float64 values"),
    ],
)
def test_wrong_volumes_are_refused(levels, text):
    with pytest.raises(VolumeError, match=text):
        Hierarchy.from_levels(levels)


def test_background_that_differs_between_levels_is_refused(labels):
    with pytest.raises(VolumeError, match="Level 1 does not have the same background"):
        Hierarchy.from_levels([labels, labels // 2], background=0)


def test_nothing_but_background_is_refused(labels):
    with pytest.raises(VolumeError, match="All voxels are background"):
        Hierarchy.from_levels([labels * 0], background=0)


@pytest.mark.parametrize("n", [-1, 0, 1])
def test_cut_below_the_coarsest_is_refused(labels, n):
    hierarchy = Hierarchy.from_levels([labels, labels // 4])
    assert hierarchy.cut(2).max() == 2
    with pytest.raises(MethodError, match=f"has 2 regions; {n} cannot be cut"):
        hierarchy.cut(n)


def test_reference_levels(shared_data):
    labels = np.load(shared_data / "reference_levels.npz")["labels"]
    hierarchy = Hierarchy.from_levels(labels)
    counts = [len(np.unique(level)) for level in hierarchy.levels]
    assert counts == [
        *(769, 75, 63, 54, 46, 36, 33, 29, 24, 20),
        *(15, 14, 7, 7, 6, 6, 3, 3, 3),
    ]
    assert len(np.unique(hierarchy.levels)) == hierarchy.n_nodes == 865
    assert same_partition(hierarchy.label_volume(hierarchy.levels[7]), labels[7])
