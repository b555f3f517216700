import numpy as np
import pytest

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.region_scores import RegionScores
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
    return RegionScores(hierarchy, hierarchy.levels, CLEAN, OCCLUDED)


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
    scores = RegionScores(hierarchy, hierarchy.levels, CLEAN, occluded)
    drops = 1.0 - OCCLUDED[:, 0]
    expected = [0, drops[1], (drops[2] + drops[5]) / 2, drops[5]]
    np.testing.assert_allclose(scores.map(0, score="logit").ravel(), expected)


def test_background_is_0():
    hierarchy = Hierarchy.from_levels([np.array([7, 0, 3]).reshape(3, 1, 1)], background=7)
    scores = RegionScores(hierarchy, hierarchy.levels, CLEAN, OCCLUDED[:2])
    np.testing.assert_allclose(scores.map(0, "probability", "logit").ravel(), [0, 0.5, 2.0])


@pytest.mark.parametrize("weights", [[1], [1, 2, 3], [-1, 2], [0, 0]])
def test_wrong_level_weights(scores, weights):
    with pytest.raises(MethodError, match="each of the 2 levels"):
        scores.map(0, level_weights=weights)


def test_wrong_quantity(scores):
    with pytest.raises(MethodError, match="drop, probability"):
        scores.values(0, "gain")
