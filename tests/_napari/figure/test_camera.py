"""Views by name, saved and gone back to."""

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_cnnvis._napari.figure.camera import camera_of, look_from
from napari_cnnvis.figure.geometry import VIEWS

from .marked_scans import SHAPE, WORLD, add, make_scan


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "PSR"])
@pytest.mark.parametrize("name", VIEWS)
def test_presets_look_by_where_the_scan_lies_in_the_patient(orientation, name):
    viewer = ViewerModel()
    layer, _ = add(viewer, make_scan(orientation))
    look_from(viewer, layer, name)
    assert viewer.dims.ndisplay == 3
    camera, view = camera_of(viewer), VIEWS[name]
    np.testing.assert_allclose(camera.view_direction, WORLD[view.forward], atol=1e-6)
    np.testing.assert_allclose(camera.up_direction, WORLD[view.up], atol=1e-6)
    right = np.cross(camera.view_direction, camera.up_direction)
    np.testing.assert_allclose(right, WORLD[view.right], atol=1e-6)


def test_presets_follow_the_order_of_the_displayed_axes():
    viewer = ViewerModel()
    layer, _ = add(viewer, make_scan())
    viewer.dims.ndisplay = 3
    viewer.dims.order = (1, 2, 0)
    look_from(viewer, layer, "left")
    np.testing.assert_allclose(
        camera_of(viewer).view_direction, np.array(WORLD["R"])[[1, 2, 0]], atol=1e-6
    )


def test_a_view_is_saved_and_gone_back_to(loaded):
    assert not loaded.form.go_to_saved.isEnabled()
    loaded.form.presets["left"].click()
    camera_of(loaded.viewer).zoom = 3.5
    loaded.form.save_view.click()
    before = camera_of(loaded.viewer).view_direction
    loaded.form.presets["superior"].click()
    camera_of(loaded.viewer).zoom = 1.0
    loaded.form.go_to_saved.click()
    np.testing.assert_allclose(camera_of(loaded.viewer).view_direction, before, atol=1e-6)
    assert camera_of(loaded.viewer).zoom == 3.5


def test_a_layer_of_unknown_orientation_says_so(panel):
    panel.viewer.add_image(np.ones(SHAPE), scale=(1, 2, 3))
    assert "does not say how the scan is oriented" in panel.form.hint.text()
    panel.look_from("anterior")
