"""The panel "Supervoxels" as a whole: building, and the end."""

import numpy as np
import pytest
from napari.layers import Labels

import napari_cnnvis as cv
from napari_cnnvis._napari.layers.regions import regions_of
from napari_cnnvis._napari.layers.scans import layer_to_volume, snapshot, volume_to_layer
from napari_cnnvis._napari.supervoxels.panel import _BOUNDARIES, SupervoxelPanel
from napari_cnnvis.ucm.build import BOUNDARIES

from ..waiting import settle
from .region_steps import labels_of, make_scan

# --- building ---------------------------------------------------------------------


def test_empty_panel_says_what_to_do(panel):
    assert "Open a scan" in panel.said.text()
    assert not panel.build_button.isEnabled()
    assert panel.slider.isHidden()
    data, attributes = volume_to_layer(make_scan())
    panel.viewer.add_image(data, **attributes)
    assert "Press Build" in panel.said.text()
    assert panel.build_button.isEnabled()


def test_panel_offers_the_librarys_boundaries_with_what_they_cost():
    assert tuple(_BOUNDARIES) == BOUNDARIES


def test_built_hierarchy_is_the_librarys_and_lies_on_the_scan(built, scan):
    layer = labels_of(built)
    assert isinstance(layer, Labels)
    expected = cv.build_hierarchy(layer_to_volume(*snapshot(scan)))
    kept = regions_of(layer).hierarchy
    np.testing.assert_array_equal(kept.leaves, expected.leaves)
    np.testing.assert_array_equal(kept.parents, expected.parents)
    for corner in ((0, 0, 0), (3, 5, 7), (20, 1, 2)):
        np.testing.assert_allclose(layer.data_to_world(corner), scan.data_to_world(corner))
    assert layer.units == scan.units
    assert layer.axis_labels == scan.axis_labels
    assert f"{kept.n_leaves:,} supervoxels of scan" in built.said.text()


def test_chosen_boundary_reaches_the_library(qtbot, panel, scan, monkeypatch):
    from napari_cnnvis.ucm import build

    asked = []

    def record(volume, boundary, cancel, progress):
        asked.append(boundary)
        return cv.Hierarchy.from_levels([(volume.data > 0).astype(int)], background=0)

    monkeypatch.setattr(build, "build_hierarchy", record)
    panel.boundary.setCurrentIndex(1)
    panel.build()
    settle(qtbot, panel)
    assert asked == ["gpb"]


def test_another_panel_takes_up_the_layer_of_the_first(qtbot, built):
    layer = labels_of(built)
    second = SupervoxelPanel(built.viewer)
    qtbot.addWidget(second)
    second.take(layer)
    settle(qtbot, second)
    assert second.view.labels is layer
    assert len(built.viewer.layers) == 2
    layer.show_selected_label = True
    assert second.only_selected.isChecked()


def test_cancelled_build_shows_nothing_and_says_so(qtbot, panel, scan, monkeypatch):
    from napari_cnnvis.errors import Cancelled
    from napari_cnnvis.ucm import build

    def wait(volume, boundary, cancel, progress):
        assert cancel.wait(30)
        raise Cancelled("Building the supervoxels was cancelled.")

    monkeypatch.setattr(build, "build_hierarchy", wait)
    panel.build()
    assert not panel.cancel_button.isHidden()
    panel.cancel_button.click()
    settle(qtbot, panel)
    assert panel.status.text() == "Building the supervoxels was cancelled."
    assert len(panel.viewer.layers) == 1
    assert panel.build_button.isEnabled()
    assert panel.cancel_button.isHidden()


def test_a_constant_scan_is_one_plain_sentence(qtbot, panel):
    panel.viewer.add_image(np.ones((5, 6, 7), np.float32))
    panel.build()
    settle(qtbot, panel)
    assert "nothing to segment" in panel.status.text()
    assert "Traceback" not in panel.status.text()


def test_another_build_hides_the_first_and_keeps_it(qtbot, built):
    first = labels_of(built)
    built.build()
    settle(qtbot, built)
    assert labels_of(built) is not first
    assert first in built.viewer.layers
    assert not first.visible
    built.take(first)
    settle(qtbot, built)
    assert first.visible
    assert built.view.labels is first
    assert len(built.viewer.layers) == 3


# --- the end --------------------------------------------------------------------------


@pytest.mark.window
def test_closed_panel_leaves_the_viewer_alone(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    callbacks = list(viewer.mouse_drag_callbacks)
    dock, panel = viewer.window.add_plugin_dock_widget("napari-cnnvis", "Supervoxels")
    assert len(viewer.mouse_drag_callbacks) == len(callbacks) + 1
    _, other = viewer.window.add_plugin_dock_widget("napari-cnnvis", "Explain CNN")
    window = dock.parent()
    qtbot.waitUntil(lambda: other.parent() in window.tabifiedDockWidgets(dock), timeout=5000)
    viewer.window.remove_dock_widget(dock)
    assert viewer.mouse_drag_callbacks == callbacks
    viewer.add_image(np.zeros((3, 4, 5)))
    panel.deleteLater()
