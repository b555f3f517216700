import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cnnvis.errors import MethodError
from napari_cnnvis.ucm.hierarchy import Hierarchy
from napari_cnnvis.ucm.quality import (
    achievable_accuracy,
    best_region,
    boundary_recall,
    explained_variation,
    undersegmentation_error,
)

HALVES = np.repeat([1, 2], 4).astype(np.int32).reshape(8, 1, 1) * np.ones((8, 6, 6), np.int32)
SLABS = np.repeat([1, 2, 3, 4], 2).astype(np.int32).reshape(8, 1, 1) * np.ones((8, 6, 6), np.int32)
SHIFTED = np.repeat([1, 1, 2], [3, 3, 2]).astype(np.int32).reshape(8, 1, 1) * np.ones(
    (8, 6, 6), np.int32
)


def test_supervoxels_that_nest_in_the_truth_are_perfect():
    assert achievable_accuracy(SLABS, HALVES) == 1
    assert undersegmentation_error(SLABS, HALVES) == 0
    assert boundary_recall(SLABS, HALVES) == 1


def test_a_shifted_boundary():
    assert achievable_accuracy(SHIFTED, HALVES) == pytest.approx(6 / 8)
    # region 1 (4 slabs) is touched by 6 slabs, region 2 (4 slabs) by 8
    assert undersegmentation_error(SHIFTED, HALVES) == pytest.approx((2 / 4 + 4 / 4) / 2)
    assert boundary_recall(SHIFTED, HALVES, tolerance=0) == 0
    assert boundary_recall(SHIFTED, HALVES, tolerance=1) == pytest.approx(1 / 2)
    assert boundary_recall(SHIFTED, HALVES, tolerance=2) == 1


def test_one_supervoxel():
    one = np.ones_like(HALVES)
    assert achievable_accuracy(one, HALVES) == 1 / 2
    assert undersegmentation_error(one, HALVES) == 1
    assert boundary_recall(one, HALVES) == 0


@given(st.integers(0, 999))
def test_measures_equal_their_formulas(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 7, (5, 4, 6))
    truth = rng.integers(0, 4, (5, 4, 6))
    data = rng.random(labels.shape)
    both = (labels > 0) & (truth > 0)
    best = [
        max(((labels == s) & (truth == g)).sum() for g in (1, 2, 3))
        for s in np.unique(labels[both])
    ]
    assert achievable_accuracy(labels, truth) == pytest.approx(sum(best) / both.sum())
    errors = []
    for g in np.unique(truth[both]):
        size = ((truth == g) & (labels > 0)).sum()
        touched = [s for s in range(1, 7) if ((labels == s) & (truth == g)).any()]
        errors.append((sum((labels == s).sum() for s in touched) - size) / size)
    assert undersegmentation_error(labels, truth) == pytest.approx(np.mean(errors))
    inside = labels > 0
    means = np.zeros(data.shape)
    for s in range(1, 7):
        means[labels == s] = data[labels == s].mean() if (labels == s).any() else 0
    mean = data[inside].mean()
    expected = ((means[inside] - mean) ** 2).sum() / ((data[inside] - mean) ** 2).sum()
    assert explained_variation(labels, data) == pytest.approx(expected)


def test_background_takes_no_part():
    labels, truth = SHIFTED.copy(), HALVES.copy()
    labels[:, 3:] = 0
    truth[:, :, 3:] = 0
    assert achievable_accuracy(labels, truth) == pytest.approx(6 / 8)
    assert boundary_recall(labels, truth) == pytest.approx(1 / 2)


def test_best_region_of_a_tree():
    hierarchy = Hierarchy.from_levels([SLABS, HALVES])
    node, dice = best_region(hierarchy, HALVES == 2)
    assert dice == 1
    assert hierarchy.sizes[node] == (HALVES == 2).sum()
    _, dice = best_region(hierarchy, (SLABS == 1) | (SLABS == 4))
    assert dice == pytest.approx(2 * 1 / (1 + 2))


def test_plain_errors():
    empty = np.zeros_like(HALVES)
    with pytest.raises(MethodError, match="No voxel has both"):
        achievable_accuracy(empty, HALVES)
    with pytest.raises(MethodError, match="no boundary"):
        boundary_recall(HALVES, np.ones_like(HALVES))
    with pytest.raises(MethodError, match="one value everywhere"):
        explained_variation(HALVES, np.ones(HALVES.shape))
    with pytest.raises(MethodError, match="mask is empty"):
        best_region(Hierarchy.from_levels([SLABS]), empty > 0)
