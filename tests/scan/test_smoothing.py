import numpy as np
import pytest
from scipy import ndimage

from napari_cnnvis.scan.smoothing import smoothed


def test_a_point_becomes_a_bell_of_the_width_asked_for():
    data = np.zeros((41, 41, 41), np.float32)
    data[20, 20, 20] = 1
    result = smoothed(data, np.ones(data.shape, bool), (2.0, 2.0, 1.0), 12.0)
    line = result[:, 20, 20]
    width = 2 * np.interp(line[20] / 2, line[20:][::-1], np.arange(20, -1, -1)) * 2
    assert width == pytest.approx(12, rel=0.02)
    line = result[20, 20]
    assert 2 * np.interp(line[20] / 2, line[20:][::-1], np.arange(20, -1, -1)) == pytest.approx(
        12, rel=0.02
    )
    assert result.sum() == pytest.approx(1, rel=0.01)


def test_what_lies_outside_has_no_influence():
    random = np.random.default_rng(0)
    inside = ndimage.gaussian_filter(random.normal(size=(20, 20, 20)), 2) > 0
    data = np.where(inside, 3.0, 1e6).astype(np.float32)
    result = smoothed(data, inside, (1, 1, 1), 5)
    np.testing.assert_allclose(result[inside], 3, rtol=1e-4)
    assert not result[~inside].any()
    np.testing.assert_array_equal(smoothed(data, inside, (1, 1, 1), 0), data)
