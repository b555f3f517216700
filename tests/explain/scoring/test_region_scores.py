import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.scoring.region_scores import RegionScores
from napari_cnnvis.models.outputs import Outputs
from napari_cnnvis.ucm.hierarchy import Hierarchy

# four leaves, which merge to two halves; two logits for each of the six regions
LEAVES = np.arange(4).reshape(4, 1, 1)
CLEAN = np.array([1.0, -0.5], np.float32)
OCCLUDED = np.array(
    [[0.5, 0.0], [2.0, 1.0], [0.0, 0.0], [-1.0, 0.5], [3.0, -2.0], [1.0, -0.5]], np.float32
)


@pytest.fixture
def hierarchy():
    return Hierarchy.from_levels([LEAVES, LEAVES // 2])


@pytest.fixture
def scores(hierarchy):
    return scores_of(hierarchy, OCCLUDED)


def scores_of(hierarchy, *occluded):
    """One array of logits for each of the baselines "a", "b", ..."""
    names = tuple("abc"[: len(occluded)])
    return RegionScores(
        CLEAN, np.stack(occluded), names, Outputs("softmax", 2), hierarchy, hierarchy.levels
    )


def score(logits, target, kind):
    if kind == "logit":
        return logits[..., target]
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return (p if kind == "probability" else np.log(p))[..., target]


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("kind", ["logit", "log_prob", "probability"])
def test_values(scores, kind, target):
    left = score(OCCLUDED.astype(float), target, kind)
    drop = score(CLEAN.astype(float), target, kind) - left
    np.testing.assert_allclose(scores.values(target, "drop", kind), drop, rtol=1e-9)
    np.testing.assert_allclose(scores.values(target, "probability", kind), left, rtol=1e-9)


def test_map_is_the_mean_over_levels(scores):
    drops = 1.0 - OCCLUDED[:, 0]
    expected = (drops[[0, 1, 2, 3]] + drops[[4, 4, 5, 5]]) / 2
    found = scores.map(0, score="logit")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.ravel(), expected)


def test_level_weights(scores):
    drops = 1.0 - OCCLUDED[:, 0]
    expected = 0.75 * drops[[0, 1, 2, 3]] + 0.25 * drops[[4, 4, 5, 5]]
    found = scores.map(0, score="logit", level_weights=np.array([3, 1]))
    np.testing.assert_allclose(found.ravel(), expected)


def test_only_scored_regions_count(hierarchy):
    occluded = OCCLUDED.copy()
    occluded[[0, 3, 4]] = np.nan
    scores = scores_of(hierarchy, occluded)
    drops = 1.0 - OCCLUDED[:, 0]
    expected = [0, drops[1], (drops[2] + drops[5]) / 2, drops[5]]
    np.testing.assert_allclose(scores.map(0, score="logit").ravel(), expected)


def test_background_is_0():
    hierarchy = Hierarchy.from_levels([np.array([7, 0, 3]).reshape(3, 1, 1)], background=7)
    scores = scores_of(hierarchy, OCCLUDED[:2])
    np.testing.assert_allclose(scores.map(0, "probability", "logit").ravel(), [0, 0.5, 2.0])


@pytest.mark.parametrize("weights", [[1], [1, 2, 3], [-1, 2], [0, 0]])
def test_wrong_level_weights(scores, weights):
    with pytest.raises(MethodError, match="each of the 2 levels"):
        scores.map(0, level_weights=weights)


def test_wrong_quantity(scores):
    with pytest.raises(MethodError, match="drop, absolute, probability"):
        scores.values(0, "gain")


# three levels of regions of many sizes, and how the definition joins them

JOINED = [np.array([0, 1, 1, 2, 2, 2, 3, 3, 3, 3]).reshape(5, 2, 1)]
JOINED += [JOINED[0] // 2, JOINED[0] * 0]


def random_scores(seed, n_baselines=1, unknown=0.0):
    hierarchy = Hierarchy.from_levels(JOINED)
    rng = np.random.default_rng(seed)
    occluded = rng.normal(0, 2, (n_baselines, hierarchy.n_nodes, 2)).astype(np.float32)
    occluded[rng.random(occluded.shape[:2]) < unknown] = np.nan
    return scores_of(hierarchy, *occluded)


def by_voxel(scores, values, join):
    """`join` of (values, sizes, drops) of each voxel's regions that are known."""
    sizes = np.array([(scores.hierarchy.leaves == n).sum() for n in (1, 2, 3, 4)])
    drops = scores.values(0, "drop", "logit")
    found = []
    for leaf in scores.hierarchy.leaves.ravel() - 1:
        nodes = [n for n in scores.levels[:, leaf] if np.isfinite(values[n])]
        voxels = [sum(sizes[(scores.levels == n).any(0)]) for n in nodes]
        found.append(join(values[nodes], np.array(voxels), drops[nodes]) if nodes else 0)
    return np.reshape(found, scores.hierarchy.leaves.shape)


JOIN = {
    "mean": lambda values, *_: values.mean(),
    "size-aware": lambda values, sizes, _: np.average(values, weights=sizes**-0.5),
    "strongest": lambda values, _, drops: values[np.abs(drops).argmax()],
}


@pytest.mark.parametrize("join", JOIN)
@given(
    seed=st.integers(0, 999),
    quantity=st.sampled_from(["drop", "probability"]),
    unknown=st.sampled_from([0, 0.4]),
    n_baselines=st.integers(1, 3),
)
def test_joins_of_the_levels(join, seed, quantity, unknown, n_baselines):
    scores = random_scores(seed, n_baselines, unknown)
    expected = by_voxel(scores, scores.values(0, quantity, "logit"), JOIN[join])
    found = scores.map(0, quantity, "logit", join=join)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_strongest_keeps_the_sign(hierarchy):
    occluded = np.tile(CLEAN, (6, 1))
    occluded[[0, 4], 0] += [3, 1]
    occluded[[2, 5], 0] -= [1, 2]
    found = scores_of(hierarchy, occluded).map(0, score="logit", join="strongest")
    np.testing.assert_allclose(found.ravel(), [-3, -1, 2, 2])


@pytest.mark.parametrize("join", JOIN)
def test_levels_without_weight_do_not_count(hierarchy, join):
    occluded = OCCLUDED.copy()
    occluded[4] = np.nan
    scores = scores_of(hierarchy, occluded)
    found = scores.map(0, "probability", "logit", join=join, level_weights=[0, 1])
    np.testing.assert_allclose(found.ravel(), [0, 0, OCCLUDED[5, 0], OCCLUDED[5, 0]])


def test_wrong_join(scores):
    with pytest.raises(MethodError, match="mean, size-aware, strongest"):
        scores.map(0, join="median")


@given(seed=st.integers(0, 999), quantity=st.sampled_from(["drop", "probability"]))
def test_values_are_the_mean_over_the_baselines(seed, quantity):
    scores = random_scores(seed, 3)
    each = [scores.values(1, quantity, baseline=name) for name in "abc"]
    np.testing.assert_allclose(scores.values(1, quantity), np.mean(each, axis=0), rtol=1e-9)


@pytest.mark.parametrize("number", [0, 1])
def test_one_baseline_by_its_name(hierarchy, number):
    both = scores_of(hierarchy, OCCLUDED, OCCLUDED[::-1])
    alone = scores_of(hierarchy, [OCCLUDED, OCCLUDED[::-1]][number])
    name = "ab"[number]
    np.testing.assert_array_equal(both.values(1, baseline=name), alone.values(1))
    np.testing.assert_array_equal(both.map(1, baseline=name), alone.map(1))


def test_a_baseline_that_is_not_of_this_run(scores):
    with pytest.raises(MethodError, match="'b' is not one of this run's baselines; use one of a"):
        scores.map(0, baseline="b")


def test_baselines_that_have_not_scored_a_region_do_not_count_for_it(hierarchy):
    first, second = OCCLUDED.copy(), OCCLUDED[::-1].copy()
    first[[0, 1]] = np.nan
    second[[1, 2]] = np.nan
    found = scores_of(hierarchy, first, second).values(0, "probability", "logit")
    expected = (OCCLUDED[:, 0] + OCCLUDED[::-1, 0]) / 2
    expected[[0, 1, 2]] = second[0, 0], np.nan, first[2, 0]
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("join", JOIN)
@pytest.mark.parametrize("quantity", ["drop", "probability"])
def test_disagreement_is_the_largest_minus_the_smallest_map(quantity, join):
    scores = random_scores(5, 3)
    maps = [scores.map(1, quantity, "log_prob", name, join=join) for name in "abc"]
    expected = np.max(maps, axis=0) - np.min(maps, axis=0)
    found = scores.disagreement(1, quantity, "log_prob", join=join)
    assert found.min() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_regions_that_one_baseline_has_not_scored_do_not_disagree(hierarchy):
    unscored = np.full_like(OCCLUDED, np.nan)
    assert not scores_of(hierarchy, OCCLUDED, unscored).disagreement(0).any()
    unscored[[0, 4]] = OCCLUDED[[1, 5]]
    found = scores_of(hierarchy, OCCLUDED, unscored).disagreement(0, score="logit").ravel()
    apart = (OCCLUDED[[1, 5], 0] - OCCLUDED[[0, 4], 0]).mean()
    np.testing.assert_allclose(found, [abs(apart), 2, 0, 0], rtol=1e-6)


def test_one_baseline_cannot_disagree(scores, plain):
    with pytest.raises(MethodError, match="two or more baselines") as error:
        scores.disagreement(0)
    plain(error.value)
