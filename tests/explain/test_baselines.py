import numpy as np
import pytest
from scipy import ndimage

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.baselines import make_baseline


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
    with pytest.raises(MethodError, match="use 'blur' or a number"):
        make_baseline(np.ones((3, 4, 5), np.float32), value, (1, 1, 1))
