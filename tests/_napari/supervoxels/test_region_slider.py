"""The number of regions, as a slider and a box."""

import numpy as np

from napari_cnnvis._napari.supervoxels.region_slider import RegionSlider


def test_slider_is_about_even_in_the_logarithm(qtbot):
    slider = RegionSlider()
    qtbot.addWidget(slider)
    slider.offer(np.arange(1, 10_001))
    middle = slider.slider.maximum() // 2
    slider.slider.setValue(middle)
    assert 50 < slider.value < 500
    assert slider.box.value() == slider.value


def test_box_steps_through_the_numbers_that_there_are(qtbot):
    slider = RegionSlider()
    qtbot.addWidget(slider)
    slider.offer(np.array([3, 17, 90]))
    slider.show_value(17)
    changes = []
    slider.changed.connect(changes.append)
    slider.box.stepBy(1)
    slider.box.stepBy(-1)
    slider.box.setValue(5)
    assert changes == [90, 17, 3]
    assert slider.box.value() == 3
