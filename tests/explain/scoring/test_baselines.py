import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.scoring.baselines import make_baseline


def ball(shape=(30, 30, 30), radius=8):
    grid = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    return (grid**2).sum(0) < radius**2


@pytest.mark.parametrize("spacing", [(2, 2, 2), (1, 3, 2)])
def test_blur_of_a_flat_brain_is_flat_up_to_its_edge(spacing):
    brain = ball()
    data = np.where(brain, np.float32(0.7), np.float32(0))
    blurred = make_baseline(data, "blur", spacing).image
    np.testing.assert_allclose(blurred[brain], 0.7, rtol=1e-4)


def test_blur_of_a_flat_brain_on_any_background_value():
    brain = ball()
    data = np.where(brain, np.float32(1.5), np.float32(-2))
    np.testing.assert_allclose(make_baseline(data, "blur", (2, 2, 2)).image[brain], 1.5, rtol=1e-4)


def test_blur_takes_detail_away():
    brain = ball()
    noise = np.random.default_rng(0).random(brain.shape, dtype=np.float32)
    data = np.where(brain, 0.5 + noise, 0).astype(np.float32)
    blurred = make_baseline(data, "blur", (2, 2, 2)).image
    assert blurred[brain].std() < 0.1 * data[brain].std()
    assert blurred[brain].mean() == pytest.approx(data[brain].mean(), abs=0.05)


def test_blur_without_a_background_is_a_plain_gaussian():
    data = np.random.default_rng(0).random((12, 14, 10), dtype=np.float32)
    expected = ndimage.gaussian_filter(data, (3, 3, 3), mode="nearest", truncate=3)
    result = make_baseline(data, "blur", (1, 1, 1), sigma=3).image
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_width_is_in_millimetres():
    data = np.zeros((31, 31, 31), np.float32) + np.random.default_rng(0).random((31, 31, 31))
    data = data.astype(np.float32)
    fine = make_baseline(data, "blur", (1, 1, 1), sigma=2).image
    coarse = make_baseline(data, "blur", (2, 2, 2), sigma=4).image
    np.testing.assert_allclose(fine, coarse, atol=1e-6)


def test_background_far_away_stays_what_it_is():
    brain = ball((60, 60, 60), 6)
    data = np.where(brain, np.float32(1), np.float32(0))
    assert make_baseline(data, "blur", (2, 2, 2), sigma=4).image[0, 0, 0] == 0


@pytest.mark.parametrize("value", [0, -1.5, "0.25"])
def test_a_number_is_used_everywhere(value):
    data = np.ones((3, 4, 5), np.float32)
    result = make_baseline(data, value, (1, 1, 1)).image
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, np.full((3, 4, 5), float(value), np.float32))


@pytest.mark.parametrize("value", ["median", None, np.nan, np.inf, ""])
def test_anything_else_is_refused(value):
    with pytest.raises(MethodError, match="use 'blur', 'border', 'noise', a number such as 0"):
        make_baseline(np.ones((3, 4, 5), np.float32), value, (1, 1, 1))


def test_an_array_is_taken_as_it_is():
    data, other = np.random.default_rng(0).integers(0, 3, (2, 3, 4, 5)).astype(np.float32)
    baseline = make_baseline(data, other, (1, 1, 1))
    np.testing.assert_array_equal(baseline.image, other)
    np.testing.assert_array_equal(baseline.values(np.array([59, 0, 7])), other.flat[[59, 0, 7]])


def on_background(brain, seed=0):
    intensities = np.random.default_rng(seed).uniform(0.5, 1, brain.shape)
    return np.where(brain, intensities, 0).astype(np.float32)


@pytest.mark.parametrize("name", ["blur", "border", "noise"])
def test_named_baselines_replace_the_head_only(name):
    brain = ball((14, 15, 16), 5)
    baseline = make_baseline(on_background(brain), name, (2, 2, 2))
    np.testing.assert_array_equal(baseline.replaces, brain)


@pytest.mark.parametrize("given", [1, np.float32([0, 1, 2, 0]).reshape(1, 2, 2)])
def test_voxels_that_are_as_the_baseline_are_not_replaced(given):
    data = np.float32([0, 1, 1, 2]).reshape(1, 2, 2)
    baseline = make_baseline(data, given, (1, 1, 1))
    np.testing.assert_array_equal(baseline.replaces, data != given)


def mean_around(data, head, region):
    """The mean of the head's voxels that share a face with the region, by looking at each."""
    around = []
    for place in map(np.array, np.argwhere(head & ~region)):
        neighbours = [place + sign * step for step in np.eye(3, dtype=int) for sign in (-1, 1)]
        inside = [n for n in neighbours if (n >= 0).all() and (n < data.shape).all()]
        if any(region[tuple(n)] for n in inside):
            around.append(data[tuple(place)])
    return np.mean(around)


@given(seed=st.integers(0, 999), background=st.booleans())
def test_border_is_the_mean_of_the_heads_voxels_around(seed, background):
    rng, shape = np.random.default_rng(seed), (6, 7, 5)
    head = ball(shape, 3) if background else np.ones(shape, bool)
    data = on_background(head, seed)
    baseline = make_baseline(data, "border", (2, 2, 2))
    for share in (0.1, 0.5):
        region = head & (rng.random(shape) < share)
        region[3, 3, 2] = True
        voxels = rng.permutation(np.flatnonzero(region))
        found = baseline.values(voxels)
        assert found.dtype == np.float32
        expected = np.full(len(voxels), mean_around(data, head, region))
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_border_of_a_region_at_the_brains_edge_is_not_the_background():
    brain = ball((14, 15, 16), 5)
    data = np.where(brain, np.float32(0.7), np.float32(-3))
    edge = brain & ~ndimage.binary_erosion(brain)
    found = make_baseline(data, "border", (2, 2, 2)).values(np.flatnonzero(edge))
    np.testing.assert_allclose(found, 0.7, rtol=1e-6)


def test_border_of_the_whole_head_is_its_mean():
    brain = ball((14, 15, 16), 5)
    data = on_background(brain)
    found = make_baseline(data, "border", (2, 2, 2)).values(np.flatnonzero(brain))
    np.testing.assert_allclose(found, data[brain].mean(), rtol=1e-5)


def test_noise_has_the_heads_mean_and_deviation():
    brain = ball()
    data = on_background(brain)
    noise = make_baseline(data, "noise", (2, 2, 2)).image
    assert noise.dtype == np.float32
    assert noise[brain].mean() == pytest.approx(data[brain].mean(), abs=0.02)
    assert noise[brain].std() == pytest.approx(data[brain].std(), rel=0.1)
    assert abs(np.corrcoef(noise[brain], data[brain])[0, 1]) < 0.1
    np.testing.assert_array_equal(noise[~brain], 0)


def test_noise_is_the_same_in_each_run():
    data = on_background(ball())
    one, other = (make_baseline(data, "noise", (2, 2, 2)).image for _ in range(2))
    np.testing.assert_array_equal(one, other)
