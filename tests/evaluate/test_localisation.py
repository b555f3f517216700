import time
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from napari_cnnvis.errors import MethodError
from napari_cnnvis.evaluate.localisation import (
    average_precision,
    best_dice,
    localise,
    mass_accuracy,
    near,
    pointing_hit,
    rank_accuracy,
    roc_auc,
)

SHAPE = (2, 3, 4)
masks = hnp.arrays(bool, SHAPE)
values_with_ties = hnp.arrays(np.float32, SHAPE, elements=st.integers(-2, 2).map(float))
ALL = (roc_auc, average_precision, best_dice, mass_accuracy, rank_accuracy, pointing_hit)


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
def test_auc_equals_counting_pairs(values, truth, inside):
    expected = pairs_won(values, truth, inside)
    assert roc_auc(values, truth, inside) == pytest.approx(expected, abs=1e-12)


@given(values_with_ties, masks)
def test_everything_counts_by_default(values, truth):
    expected = pairs_won(values, truth, np.ones(SHAPE, bool))
    assert roc_auc(values, truth) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=20)
@given(values_with_ties, masks, masks)
def test_auc_and_average_precision_are_scikit_learns(values, truth, inside):
    metrics = pytest.importorskip("sklearn.metrics")
    chosen = truth[inside]
    assume(chosen.any() and not chosen.all())
    expected = metrics.roc_auc_score(chosen, values[inside])
    assert roc_auc(values, truth, inside) == pytest.approx(expected, abs=1e-6)
    expected = metrics.average_precision_score(chosen, values[inside])
    assert average_precision(values, truth, inside) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_a_large_random_map_are_scikit_learns(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(seed)
    values = random.normal(size=(30, 30, 30)).astype(np.float32)
    truth = random.random(values.shape) < 0.02 + 0.1 * (values > 0.5)
    scores = localise(values, truth)
    flat, region = values.ravel(), truth.ravel()
    assert scores.roc_auc == pytest.approx(metrics.roc_auc_score(region, flat), abs=1e-6)
    expected = metrics.average_precision_score(region, flat)
    assert scores.average_precision == pytest.approx(expected, abs=1e-6)
    precision, recall, _ = metrics.precision_recall_curve(region, flat)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert scores.best_dice == pytest.approx(f1.max(), abs=1e-6)
    top = np.argsort(-flat)[: region.sum()]
    assert scores.rank_accuracy == pytest.approx(region[top].mean(), abs=1e-6)


@given(values_with_ties, masks, masks)
def test_dice_and_mass_follow_their_definitions(values, truth, inside):
    region = truth & inside
    assume(region.any())
    overlaps = [
        2 * (above & region).sum() / (above.sum() + region.sum())
        for above in ((values >= threshold) & inside for threshold in range(-2, 3))
    ]
    assert best_dice(values, truth, inside) == pytest.approx(max(overlaps))
    positive = np.where(inside, np.maximum(values, 0), 0)
    expected = positive[region].sum() / positive.sum() if positive.any() else 0
    assert mass_accuracy(values, truth, inside) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=20)
@given(values_with_ties, masks)
def test_ties_count_as_their_mean_over_all_orders(values, truth):
    assume(truth.any())
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(200):
        order = np.lexsort((random.random(values.size), -values.ravel()))
        drawn.append(truth.ravel()[order[: truth.sum()]].mean())
    assert rank_accuracy(values, truth) == pytest.approx(np.mean(drawn), abs=0.15)
    highest = values == values.max()
    assert pointing_hit(values, truth) == pytest.approx(truth[highest].mean())


@given(values_with_ties, masks, masks)
def test_one_sort_gives_what_each_function_gives(values, truth, inside):
    chosen = truth[inside]
    assume(chosen.any() and not chosen.all())
    scores = asdict(localise(values, truth, inside, tolerance=1))
    assert scores.pop("share") == pytest.approx(chosen.mean())
    expected = {function.__name__: function(values, truth, inside) for function in ALL}
    expected["pointing_hit"] = pointing_hit(values, truth, inside, tolerance=1)
    assert scores == expected


def test_a_planted_region_is_found():
    truth = np.zeros((20, 20, 20), bool)
    truth[5:9, 5:9, 5:9] = True
    assert set(asdict(localise(truth.astype(float), truth)).values()) == {1, truth.mean()}
    upside_down = localise(-truth.astype(float), truth)
    assert (upside_down.roc_auc, upside_down.rank_accuracy, upside_down.pointing_hit) == (0, 0, 0)
    assert upside_down.mass_accuracy == 0
    flat = localise(np.ones(truth.shape), truth)
    share = truth.mean()
    assert flat.roc_auc == 0.5
    assert [flat.average_precision, flat.mass_accuracy, flat.rank_accuracy, flat.pointing_hit] == (
        pytest.approx([share] * 4)
    )
    assert flat.best_dice == pytest.approx(2 * share / (1 + share))


def test_a_random_map_is_at_chance():
    random = np.random.default_rng(0)
    truth = random.random((40, 40, 40)) < 0.1
    aucs, shares = [], []
    for _ in range(10):
        scores = localise(random.random(truth.shape), truth)
        aucs.append(scores.roc_auc)
        shares += [scores.average_precision, scores.mass_accuracy, scores.rank_accuracy]
    np.testing.assert_allclose(aucs, 0.5, atol=0.015)
    np.testing.assert_allclose(shares, 0.1, atol=0.015)


def test_what_lies_outside_does_not_count():
    truth = np.array([True, False, False, True])
    values = np.array([1.0, 0.0, 9.0, -9.0])
    inside = np.array([True, True, False, False])
    assert [function(values, truth, inside) for function in ALL] == [1] * 6
    values[2] = np.nan
    assert roc_auc(values, truth, inside) == 1


def test_pointing_near_a_region_is_a_hit_within_the_tolerance():
    truth = np.zeros((9, 9, 9), bool)
    truth[4, 4, 4] = True
    values = np.zeros(truth.shape)
    values[4, 4, 7] = 1
    assert [pointing_hit(values, truth, tolerance=t) for t in (0, 2.9, 3)] == [0, 0, 1]
    spacing = (2, 2, 1.5)
    assert [pointing_hit(values, truth, None, t, spacing) for t in (4.4, 4.5)] == [0, 1]


@given(masks, st.floats(0.1, 4), st.tuples(*[st.floats(0.5, 3)] * 3))
def test_near_is_all_within_the_distance(region, tolerance, spacing):
    away = ndimage.distance_transform_edt(~region, sampling=spacing)
    assume(not np.isclose(away, tolerance).any())
    expected = away <= tolerance if region.any() else region
    np.testing.assert_array_equal(near(region, tolerance, spacing), expected)


@pytest.mark.parametrize("truth", [[True, True], [False, False]])
def test_region_that_is_empty_or_everything_has_no_auc(truth, plain):
    with pytest.raises(MethodError, match="no AUC exists") as caught:
        roc_auc(np.array([1.0, 2.0]), np.array(truth))
    plain(caught.value)


@pytest.mark.parametrize("function", ALL)
def test_what_cannot_be_scored_is_refused(function, plain):
    values, truth = np.arange(3.0), np.array([1, 0, 0], bool)
    with pytest.raises(MethodError, match="same grid") as caught:
        function(values, truth[:2])
    plain(caught.value)
    with pytest.raises(MethodError, match="same grid"):
        function(values, truth, truth[:2])
    with pytest.raises(MethodError, match="1 voxels that are NaN") as caught:
        function(np.array([1.0, np.nan, 2.0]), truth)
    plain(caught.value)
    with pytest.raises(MethodError, match="No voxel counts"):
        function(values, truth, np.zeros(3, bool))
    with pytest.raises(MethodError, match=r"no AUC|no voxel among"):
        function(values, truth, ~truth)


@pytest.mark.parametrize("tolerance", [-1, np.nan, np.inf])
def test_bad_tolerance_is_refused(tolerance):
    with pytest.raises(MethodError, match="tolerance"):
        near(np.ones(3, bool), tolerance)


def test_a_whole_brain_takes_well_under_a_second():
    random = np.random.default_rng(0)
    inside = np.zeros((110, 110, 110), bool)
    inside[20:90, 20:90, 20:71] = True
    truth = np.zeros_like(inside)
    truth[40:60, 40:60, 40:70] = True
    values = random.random(inside.shape, np.float32)
    start = time.process_time()
    localise(values, truth, inside, 4.0, (2, 2, 2))
    assert time.process_time() - start < 0.5
