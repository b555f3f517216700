import numpy as np
import pytest

import napari_cnnvis as cv
from napari_cnnvis.errors import MethodError
from napari_cnnvis.scan.smoothing import smoothed


def test_smooth_and_absolute_of_a_run_and_of_its_record(conv_model, brain):
    hierarchy = cv.build_hierarchy(brain)
    how = {"levels": [20, 5], "baseline": ["blur", 0]}
    raw = cv.sensitivity(conv_model, brain, hierarchy, 1, **how)
    both = cv.sensitivity(conv_model, brain, hierarchy, 1, **how, quantity="absolute", smooth=4.0)
    again = cv.remap(raw, 1, quantity="absolute", smooth=4.0)
    np.testing.assert_allclose(both.data, again.data, atol=1e-7)
    assert (both.data >= 0).all()
    assert both.provenance["smooth"] == again.provenance["smooth"] == 4.0
    drops = [raw.regions.values(1, baseline=name) for name in raw.regions.baselines]
    np.testing.assert_allclose(raw.regions.values(1, "absolute"), np.mean(np.abs(drops), axis=0))
    sharp = cv.remap(raw, 1, quantity="absolute").data
    expected = smoothed(sharp, hierarchy.leaves > 0, brain.spacing, 4.0)
    np.testing.assert_array_equal(again.data, expected)
    boxes = cv.box_sensitivity(conv_model, brain, 1, size=3, stride=4, smooth=4.0)
    np.testing.assert_allclose(boxes.data, cv.remap(boxes, 1, smooth=4.0).data, atol=1e-7)
    with pytest.raises(MethodError, match="smoothing of -1"):
        cv.remap(raw, 1, smooth=-1)
