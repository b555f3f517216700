import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_cnnvis.errors import MethodError
from napari_cnnvis.evaluate.localisation import roc_auc

SHAPE = (2, 3, 4)
masks = hnp.arrays(bool, SHAPE)
values_with_ties = hnp.arrays(np.float32, SHAPE, elements=st.integers(-2, 2).map(float))


def pairs_won(values, truth, inside):
    """Share of (region, elsewhere) pairs in which the region's voxel is higher; ties half."""
    wins = [
        (a > b) + 0.5 * (a == b)
        for a in values[truth & inside].tolist()
        for b in values[~truth & inside].tolist()
    ]
    assume(wins)
    return np.mean(wins)


@given(values_with_ties, masks, masks)
def test_equals_counting_pairs(values, truth, inside):
    expected = pairs_won(values, truth, inside)
    assert roc_auc(values, truth, inside) == pytest.approx(expected, abs=1e-12)


@given(values_with_ties, masks)
def test_everything_counts_by_default(values, truth):
    expected = pairs_won(values, truth, np.ones(SHAPE, bool))
    assert roc_auc(values, truth) == pytest.approx(expected, abs=1e-12)


def test_perfect_upside_down_and_flat():
    truth = np.array([True, True, False, False])
    values = np.array([3.0, 2.0, 1.0, 0.0])
    assert roc_auc(values, truth) == 1
    assert roc_auc(-values, truth) == 0
    assert roc_auc(0 * values, truth) == 0.5


def test_what_lies_outside_does_not_count():
    truth = np.array([True, False, False, True])
    values = np.array([1.0, 0.0, 9.0, -9.0])
    inside = np.array([True, True, False, False])
    assert roc_auc(values, truth, inside) == 1


@pytest.mark.parametrize("truth", [[True, True], [False, False]])
def test_region_that_is_empty_or_everything_is_refused(truth):
    with pytest.raises(MethodError, match="no AUC exists"):
        roc_auc(np.array([1.0, 2.0]), np.array(truth))


def test_region_outside_what_counts_is_refused():
    with pytest.raises(MethodError, match="no AUC exists"):
        roc_auc(np.arange(3.0), np.array([1, 0, 0], bool), np.array([0, 1, 1], bool))
