import numpy as np
import pytest
from scipy import ndimage

import napari_cnnvis as cv
from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.smoothing import smoothed


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


def test_smooth_and_absolute_of_a_run_and_of_its_record(conv_model, brain):
    hierarchy = cv.build_hierarchy(brain)
    how = {"levels": [20, 5], "baseline": ["blur", 0]}
    raw = cv.sensitivity(conv_model, brain, hierarchy, 1, **how)
    both = cv.sensitivity(conv_model, brain, hierarchy, 1, **how, quantity="absolute", smooth=4.0)
    again = cv.remap(raw, 1, "absolute", smooth=4.0)
    np.testing.assert_allclose(both.data, again.data, atol=1e-7)
    assert (both.data >= 0).all()
    assert both.provenance["smooth"] == again.provenance["smooth"] == 4.0
    drops = [raw.regions.values(1, baseline=name) for name in raw.regions.baselines]
    np.testing.assert_allclose(raw.regions.values(1, "absolute"), np.mean(np.abs(drops), axis=0))
    sharp = cv.remap(raw, 1, "absolute").data
    expected = smoothed(sharp, hierarchy.leaves > 0, brain.spacing, 4.0)
    np.testing.assert_array_equal(again.data, expected)
    boxes = cv.box_sensitivity(conv_model, brain, 1, 3, 4, smooth=4.0)
    np.testing.assert_allclose(boxes.data, cv.remap(boxes, 1, smooth=4.0).data, atol=1e-7)
    with pytest.raises(MethodError, match="smoothing of -1"):
        cv.remap(raw, 1, smooth=-1)
