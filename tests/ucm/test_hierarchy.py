from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cnnvis.errors import MethodError, VolumeError
from napari_cnnvis.ucm.build import default_counts
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


drawn = given(st.from_type(Hierarchy))


def nodes_above(hierarchy, leaf):
    chain = [leaf]
    while hierarchy.parents[chain[-1]] != chain[-1]:
        chain.append(hierarchy.parents[chain[-1]])
    return chain


@drawn
def test_nodes_of_deep_and_wide_forests(hierarchy):
    masks = np.array([mask_of_node(hierarchy, node) for node in range(hierarchy.n_nodes)])
    np.testing.assert_array_equal(hierarchy.sizes, masks.sum((1, 2, 3)))
    voxels, first, last = hierarchy.voxels()
    for node, mask in enumerate(masks):
        under = hierarchy.leaves[mask]
        assert hierarchy.leaf_counts[node] == len(np.unique(under))
        np.testing.assert_array_equal(
            np.sort(voxels[first[node] : last[node]]), np.flatnonzero(mask)
        )
    assert hierarchy.sizes.dtype == hierarchy.leaf_counts.dtype == np.int64


@drawn
def test_cut_at_an_altitude_does_all_merges_up_to_it(hierarchy):
    for altitude in [-1, *np.unique(hierarchy.altitudes), np.inf]:
        expected = []
        for leaf in range(hierarchy.n_leaves):
            _, *inner = nodes_above(hierarchy, leaf)
            expected.append([leaf, *(n for n in inner if hierarchy.altitudes[n] <= altitude)][-1])
        nodes = hierarchy.cut_nodes(altitude=altitude)
        np.testing.assert_array_equal(nodes, expected)
        np.testing.assert_array_equal(
            hierarchy.cut(altitude=altitude), hierarchy.label_volume(nodes)
        )


@drawn
def test_cuts_at_all_altitudes_and_counts_nest(hierarchy):
    coarsest = hierarchy.cut(altitude=np.inf).max()
    cuts = [hierarchy.cut(altitude=a) for a in np.unique(hierarchy.altitudes)]
    cuts += [hierarchy.cut(int(n)) for n in range(coarsest, hierarchy.n_leaves + 1, 5)]
    cuts.sort(key=lambda cut: -cut.max())
    for fine, coarse in pairwise(cuts):
        assert nests(fine, coarse)


@drawn
def test_cut_has_the_most_regions_that_are_allowed(hierarchy):
    children = np.bincount(hierarchy.parents, minlength=hierarchy.n_nodes)
    tops = hierarchy.parents == np.arange(hierarchy.n_nodes)
    binary = ((children - tops)[hierarchy.n_leaves :] == 2).all()
    for n in range(tops.sum(), hierarchy.n_leaves + 1, 3):
        regions = hierarchy.cut(int(n)).max()
        assert regions == n if binary else regions <= n


@pytest.mark.parametrize("asked", [{}, {"n_regions": 3, "altitude": 1.0}])
def test_cut_needs_a_count_or_an_altitude(labels, asked, plain):
    hierarchy = Hierarchy.from_levels([labels, labels // 4])
    for cut in (hierarchy.cut, hierarchy.cut_nodes):
        with pytest.raises(MethodError, match="either a number of regions or an altitude") as error:
            cut(**asked)
        plain(error.value)


def test_cut_at_no_altitude_is_refused(labels, plain):
    with pytest.raises(MethodError, match="not a number") as error:
        Hierarchy.from_levels([labels]).cut(altitude=np.nan)
    plain(error.value)


@drawn
def test_labels_of_a_cut_rise_with_the_node(hierarchy):
    nodes = hierarchy.cut_nodes(altitude=0.1)
    labels = hierarchy.label_volume(nodes)
    assert labels.dtype == np.int32
    for label, node in enumerate(np.unique(nodes), start=1):
        np.testing.assert_array_equal(labels == label, mask_of_node(hierarchy, node))


@drawn
def test_chain_climbs_from_leaf_to_top(hierarchy):
    for voxel in np.ndindex(hierarchy.leaves.shape):
        chain = hierarchy.chain(voxel)
        assert chain.dtype == np.int64
        leaf = hierarchy.leaves[voxel] - 1
        if leaf < 0:
            assert len(chain) == 0
            continue
        assert (np.diff(chain) > 0).all()
        assert chain[0] == leaf
        assert hierarchy.parents[chain[-1]] == chain[-1]
        np.testing.assert_array_equal(chain[1:], hierarchy.parents[chain[:-1]])


@pytest.mark.parametrize("voxel", [(0.0, 0, 0), (0, 1.5, 0), "abc", (0, None, 0)])
def test_chain_of_what_are_no_whole_numbers_is_refused(labels, voxel, plain):
    hierarchy = Hierarchy.from_levels([labels])
    with pytest.raises(VolumeError) as caught:
        hierarchy.chain(voxel)
    plain(caught.value, "three whole numbers")
    assert list(hierarchy.chain(np.array([1, 1, 1]))) == list(hierarchy.chain((1, 1, 1)))


@pytest.mark.parametrize("voxel", [(2, 0, 0), (0, 0, -1), (0, 0), (0, 0, 0, 0)])
def test_chain_outside_the_volume_is_refused(labels, voxel, plain):
    with pytest.raises(VolumeError, match=r"outside the volume; .* to 1, 1, 1") as error:
        Hierarchy.from_levels([labels]).chain(voxel)
    plain(error.value, voxel)


@given(st.from_type(Hierarchy), st.integers(0, 2**16))
def test_node_means(hierarchy, seed):
    data = np.random.default_rng(seed).normal(size=hierarchy.leaves.shape).astype(np.float32)
    means = hierarchy.node_means(data)
    expected = [
        data[mask_of_node(hierarchy, node)].mean(dtype=float) for node in range(hierarchy.n_nodes)
    ]
    assert means.dtype == np.float64
    np.testing.assert_allclose(means, expected, rtol=1e-9, atol=1e-12)


def test_means_of_another_grid_are_refused(labels, plain):
    with pytest.raises(VolumeError, match="they have to be on the same grid") as error:
        Hierarchy.from_levels([labels]).node_means(np.zeros((2, 2, 3)))
    plain(error.value, (2, 2, 3))


@given(st.from_type(Hierarchy), st.lists(st.integers(0, 90), max_size=9))
def test_levels_of_a_tree_fall_and_never_repeat(hierarchy, extra):
    coarsest = int(hierarchy.cut(altitude=np.inf).max())
    again = Hierarchy.from_tree(
        hierarchy.leaves, hierarchy.parents, hierarchy.altitudes, [coarsest + e for e in extra]
    )
    assert again.levels.shape[1:] == (hierarchy.n_leaves,)
    assert again.levels.dtype == np.int64
    counts = [len(np.unique(level)) for level in again.levels]
    assert all(a > b for a, b in pairwise(counts))
    for e in extra:
        assert (again.levels == hierarchy.cut_nodes(coarsest + e)).all(axis=1).any()


@given(st.integers(1, 20_000), st.integers(1, 2_000), st.integers(1, 60), st.integers(1, 20))
def test_default_counts_are_even_in_their_logarithm(n_leaves, finest, coarsest, levels):
    counts = default_counts(n_leaves, finest, coarsest, levels)
    finest = min(finest, n_leaves)
    ideal = np.geomspace(finest, min(coarsest, finest), levels)
    distance = np.abs(np.subtract.outer(counts, ideal))
    assert (distance.min(axis=0) <= 0.5 + 1e-9).all()
    assert (distance.min(axis=1) <= 0.5 + 1e-9).all()
    assert all(a > b for a, b in pairwise(counts))


@given(nested_labels(max_regions=60))
def test_nodes_of_levels_come_fine_to_coarse(labels):
    hierarchy = Hierarchy.from_levels(labels)
    assert (np.diff(hierarchy.levels, axis=0) >= 0).all()
    assert (hierarchy.parents >= np.arange(hierarchy.n_nodes)).all()
    for number in range(len(labels)):
        np.testing.assert_array_equal(
            hierarchy.cut_nodes(altitude=number), hierarchy.levels[number]
        )


def test_levels_with_many_regions_are_read_in_no_time():
    labels = np.arange(40**3).reshape(40, 40, 40)
    hierarchy = Hierarchy.from_levels([labels, labels // 2, labels // 4])
    assert hierarchy.n_nodes == 40**3 * 7 // 4
    np.testing.assert_array_equal(hierarchy.parents[:6], 40**3 + np.array([0, 0, 1, 1, 2, 2]))
