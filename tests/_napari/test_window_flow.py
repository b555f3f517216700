"""The whole flow by mouse, in a real window: sample, network, every method, cancel, 3D."""

import os
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QComboBox, QMenu, QStyle, QStyleOptionButton

from napari_cnnvis._napari.demo import view_in_3d

pytestmark = [
    pytest.mark.window,
    pytest.mark.skipif(
        os.environ.get("QT_QPA_PLATFORM") == "offscreen", reason="needs a display with OpenGL"
    ),
]
LEFT = Qt.MouseButton.LeftButton


def click(widget, position=None):
    QTest.mouseClick(widget, LEFT, pos=position or widget.rect().center())
    QApplication.processEvents()


def pick(qtbot, box: QComboBox, index: int):
    """Open a dropdown with the mouse and click on one of its entries."""
    view = box.view()
    for _ in range(5):  # Qt drops a click that comes too soon after another dropdown closed
        click(box, QPoint(box.width() - 8, box.height() // 2))
        qtbot.wait(QApplication.doubleClickInterval() + 50)  # else it is half a double click
        if view.isVisible():
            break
    item = view.model().index(index, box.modelColumn())
    view.scrollTo(item)
    click(view.viewport(), view.visualRect(item).center())
    qtbot.waitUntil(lambda: box.currentIndex() == index, timeout=5000)


def pick_layer(qtbot, tree, name):
    """Open the tree of layers with the mouse, search, and click on a layer."""
    click(tree)
    qtbot.waitUntil(tree.popup.isVisible, timeout=5000)
    QTest.keyClicks(tree.search, name)
    item = tree.view.indexAt(QPoint(5, 5))
    assert item.data().startswith(name)
    click(tree.view.viewport(), tree.view.visualRect(item).center())
    qtbot.waitUntil(lambda: tree.current == name, timeout=5000)
    assert not tree.popup.isVisible()


def pick_in_menu(menu: QMenu, text: str):
    action = next(a for a in menu.actions() if text in a.text())
    menu.popup(QPoint(100, 100))
    QApplication.processEvents()
    click(menu, menu.actionGeometry(action).center())


def tick(box):
    option = QStyleOptionButton()
    box.initStyleOption(option)
    indicator = box.style().subElementRect(QStyle.SubElement.SE_CheckBoxIndicator, option, box)
    click(box, indicator.center())


def keep(viewer, name):
    """Keep a picture of the window where CNNVIS_SCREENSHOTS says."""
    folder = os.environ.get("CNNVIS_SCREENSHOTS")
    if folder:
        viewer.window.screenshot(str(Path(folder) / f"{name}.png"), flash=False)


def canvas(viewer):
    QApplication.processEvents()
    return viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)


def warm_pixels(image):
    red, _, blue = np.moveaxis(image, -1, 0)
    return int((red - blue > 60).sum())


@pytest.fixture
def window(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1400, 900)
    return viewer


def test_from_scan_to_overlay_by_mouse(window, qtbot):
    viewer = window
    viewer.open_sample("napari-cnnvis", "atrophy")
    scan = viewer.layers[0]
    _, panel = viewer.window.add_plugin_dock_widget("napari-cnnvis", "Explain CNN")
    form = panel.method_form
    idle = lambda: not panel.jobs.busy  # noqa: E731
    assert "Choose a checkpoint" in panel.network.recognised.text()

    pick_in_menu(panel.network.picker.samples.menu(), "voxvgg")
    qtbot.waitUntil(lambda: panel.ready and idle(), timeout=120_000)
    assert "VoxVGG" in panel.network.recognised.text()
    assert form.target.currentText() == "atrophy"
    bare = canvas(viewer)

    click(panel.run_button)
    assert panel.cancel_button.isEnabled()
    qtbot.waitUntil(idle, timeout=120_000)
    gradcam = viewer.layers[-1]
    assert gradcam.name.startswith("Grad-CAM · atrophy · ")
    assert gradcam.data.shape == scan.data.shape
    for corner in ((0, 0, 0), (109, 50, 3)):
        np.testing.assert_allclose(gradcam.data_to_world(corner), scan.data_to_world(corner))
    shown = canvas(viewer)
    assert warm_pixels(shown) > warm_pixels(bare) + 500
    tick(form.head_only)
    assert gradcam.data[0, 0, 0] == 0
    keep(viewer, "grad-cam-2d")

    before = gradcam.data.copy()
    pick_layer(qtbot, form.layer, "conv3a")
    assert gradcam.name.endswith("conv3a")
    assert not np.array_equal(gradcam.data, before)

    pick(qtbot, form.method, form.method.findData("sensitivity"))
    form.field("finest").setValue(400)
    click(panel.run_button)
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=300_000)
    click(panel.cancel_button)
    qtbot.waitUntil(idle, timeout=120_000)
    assert viewer.layers[-1].name.endswith("(partial)")
    assert "Cancelled" in panel.status.text()

    form.field("finest").setValue(12)
    click(panel.run_button)
    qtbot.waitUntil(idle, timeout=300_000)
    ucm = viewer.layers[-1]
    assert len(viewer.layers) == 4
    assert ucm.name == "UCM sensitivity · atrophy"
    keep(viewer, "sensitivity-2d")

    for layer in viewer.layers[1:-1]:
        layer.visible = False
    view_in_3d(viewer)
    after = canvas(viewer)
    assert 0.1 < (after.max(-1) > 30).mean() < 0.8
    assert warm_pixels(after) > 50
    keep(viewer, "sensitivity-3d")


def test_cam_by_mouse_on_the_gap_network(window, qtbot):
    viewer = window
    viewer.open_sample("napari-cnnvis", "atrophy")
    _, panel = viewer.window.add_plugin_dock_widget("napari-cnnvis", "Explain CNN")
    pick_in_menu(panel.network.picker.samples.menu(), "voxresnetgap")
    qtbot.waitUntil(lambda: panel.ready and not panel.jobs.busy, timeout=120_000)
    pick(qtbot, panel.method_form.method, panel.method_form.method.findData("cam"))
    click(panel.run_button)
    qtbot.waitUntil(lambda: not panel.jobs.busy, timeout=120_000)
    assert viewer.layers[-1].name == "CAM · atrophy · relu4"
    keep(viewer, "cam-2d")
    view_in_3d(viewer)
    assert warm_pixels(canvas(viewer)) > 50
    keep(viewer, "cam-3d")


def test_panel_fits_a_small_screen(window):
    _, panel = window.window.add_plugin_dock_widget("napari-cnnvis", "Explain CNN")
    window.window.resize(1280, 720)
    QApplication.processEvents()
    assert panel.minimumSizeHint().height() < 600
    corner = panel.run_button.mapTo(panel, panel.run_button.rect().bottomRight())
    assert panel.rect().contains(corner)
