"""Going from peak to peak in the panel "Inspect"."""

import numpy as np
import pytest

from napari_cnnvis._napari.layers.scans import volume_to_layer

from .made_maps import add_map, make_volume, two_blobs


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "SAR", "PIL"])
def test_jump_goes_to_the_voxel_and_says_where_it_is_in_the_scanner(
    panel, viewer, qtbot, orientation
):
    volume = make_volume(orientation)
    voxel = (3, 14, 7)
    volume.data[voxel] = 0.5
    data, attributes = volume_to_layer(volume)
    scan = viewer.add_image(np.zeros(data.shape, np.float32), **attributes)
    layer = add_map(viewer, scan, data)
    panel.peaks.jump.click()
    (there,) = np.argwhere(layer.data)
    np.testing.assert_allclose(viewer.dims.point, layer.data_to_world(there))
    assert viewer.dims.current_step == tuple(
        np.round((np.array(viewer.dims.point) - [r.start for r in viewer.dims.range])
                 / [r.step for r in viewer.dims.range]).astype(int)
    )  # fmt: skip
    mm = (volume.affine @ [*voxel, 1])[:3]
    np.testing.assert_allclose(panel.peaks.peaks[0].mm, mm)
    x, y, z = (abs(round(c)) for c in mm)
    letters = [pair[int(c < 0)] for pair, c in zip(("RL", "AP", "SI"), mm, strict=True)]
    place = f"{letters[0]} {x}, {letters[1]} {y}, {letters[2]} {z} mm"
    assert panel.peaks.said.text() == f"peak 1 of 1: 0.5 at {place}"
    assert place in panel.voxel.place.text()


def test_next_and_previous_go_round(panel, viewer, scan):
    add_map(viewer, scan, two_blobs())
    browser = panel.peaks
    browser.next.click()
    assert browser.said.text().startswith("peak 1 of 2: 0.9 ")
    assert panel.voxel.voxel == (13, 16, 19)
    browser.next.click()
    assert browser.said.text().startswith("peak 2 of 2: 0.6 ")
    assert panel.voxel.voxel == (3, 5, 6)
    browser.next.click()
    assert browser.current == 0
    browser.previous.click()
    assert browser.current == 1


def test_peaks_that_are_not_shown_are_left_out(panel, viewer, scan):
    add_map(viewer, scan, two_blobs())
    panel.peaks.jump.click()
    panel.minimum.setValue(100)  # the stronger one is in the small cluster
    assert panel.peaks.said.text() == "1 peaks above the threshold."
    panel.peaks.next.click()
    assert panel.voxel.voxel == (3, 5, 6)
    panel.minimum.setValue(0)
    assert panel.peaks.said.text().startswith("peak 2 of 2")
    panel.threshold.setValue(0.7)
    panel.peaks.jump.click()
    assert panel.peaks.said.text().startswith("peak 1 of 1: 0.9")
    panel.view.layer.contrast_limits = (0.95, 1)
    panel.peaks.jump.click()
    assert "Nothing" in panel.peaks.said.text()


def test_jump_in_3d_turns_about_the_peak(panel, viewer, scan):
    layer = add_map(viewer, scan, two_blobs())
    viewer.dims.ndisplay = 3
    panel.peaks.jump.click()
    camera = viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera
    np.testing.assert_allclose(camera.center, layer.data_to_world((13, 16, 19)))


def test_jump_moves_the_picture_only_if_the_peak_is_outside(panel, viewer, scan):
    layer = add_map(viewer, scan, two_blobs())
    camera = viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera
    world = np.array(layer.data_to_world((13, 16, 19)))
    camera.zoom = 10
    camera.center = (0, world[1] + 20, world[2] - 20)
    before = camera.center
    panel.peaks.jump.click()
    if hasattr(viewer, "canvas"):
        assert camera.center == before
    camera.center = (0, world[1] + 200, world[2])
    panel.peaks.jump.click()
    np.testing.assert_allclose(camera.center[1:], world[1:])
