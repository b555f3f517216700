"""Every panel in a real window of 1280 x 720 pixels, dark and light: nothing cut off, nothing overlapping."""

import os
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QRect
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractScrollArea,
    QApplication,
    QCheckBox,
    QComboBox,
    QLabel,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QWidget,
)

PANELS = ["Explain CNN", "Supervoxels", "Maps", "Inspect", "Trust", "Figure", "Scans"]

pytestmark = [
    pytest.mark.window,
    pytest.mark.skipif(
        os.environ.get("QT_QPA_PLATFORM") == "offscreen", reason="needs a display with OpenGL"
    ),
]


@pytest.fixture
def viewer(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 720)
    return viewer


def settle(qtbot):
    for _ in range(5):
        QApplication.processEvents()
        qtbot.wait(20)


def seen(panel):
    """Widgets that a user reads or presses, with their rectangles on the panel; not what is scrolled."""
    kinds = (QAbstractButton, QComboBox, QLabel, QLineEdit)
    for widget in panel.findChildren(QWidget):
        if not widget.isVisible() or not isinstance(widget, kinds) or not widget.width():
            continue
        if inside_a_list(widget, panel):
            continue
        yield widget, QRect(widget.mapTo(panel, QPoint(0, 0)), widget.size())


def inside_a_list(widget, panel):
    """Parts of a combobox, of a spin box, of a table: laid out by Qt itself."""
    parent = widget.parentWidget()
    while parent is not None and parent is not panel:
        plain_area = isinstance(parent, QAbstractScrollArea) and not isinstance(parent, QScrollArea)
        if plain_area or isinstance(parent, QComboBox) or "SpinBox" in type(parent).__name__:
            return True
        parent = parent.parentWidget()
    return False


def text_of(widget):
    text = getattr(widget, "text", getattr(widget, "currentText", str))()
    return f"{type(widget).__name__} {text!r}"


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("name", PANELS)
def test_nothing_is_cut_off_or_overlaps(qtbot, viewer, tmp_path, name, theme):
    viewer.theme = theme
    viewer.open_sample("napari-cnnvis", "control")
    _, panel = viewer.window.add_plugin_dock_widget("napari-cnnvis", name)
    settle(qtbot)
    window = viewer.window._qt_window
    assert (window.width(), window.height()) == (1280, 720)
    assert panel.mapTo(window, QPoint(panel.width(), panel.height())).x() <= 1280
    assert panel.mapTo(window, QPoint(panel.width(), panel.height())).y() <= 720
    found = list(seen(panel))
    assert len(found) >= 5
    for widget, place in found:
        assert place.left() >= 0, text_of(widget)
        assert place.right() <= panel.width(), text_of(widget)
        if isinstance(widget, QPushButton | QCheckBox) and widget.text():
            needed = widget.fontMetrics().horizontalAdvance(widget.text().replace("&", ""))
            assert needed <= place.width(), f"{text_of(widget)} needs {needed}, has {place.width()}"
    for number, (one, place) in enumerate(found):
        for other, its in found[number + 1 :]:
            if one.isAncestorOf(other) or other.isAncestorOf(one):
                continue
            if one.parentWidget() is not other.parentWidget():
                continue
            both = place.intersected(its)
            assert both.width() <= 2 or both.height() <= 2, (
                f"{text_of(one)} lies on {text_of(other)}"
            )
    picture = viewer.screenshot(canvas_only=False, flash=False)
    assert picture.shape[0] >= 720
    shown = picture[..., :3].astype(int)
    right = shown[:, -panel.width() :]
    assert np.unique(right.reshape(-1, 3), axis=0).shape[0] > 20  # not an empty area
    brightness = np.median(right)
    assert brightness > 150 if theme == "light" else brightness < 100
    if folder := os.environ.get("CNNVIS_SCREENSHOTS"):
        from imageio.v3 import imwrite

        imwrite(Path(folder) / f"{name.replace(' ', '-').lower()}-{theme}.png", picture)
