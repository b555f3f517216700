"""A robot presses what it finds: 300 random legal actions over all panels, with jobs running."""

import random

import numpy as np
import pytest
import torch
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QCheckBox,
    QComboBox,
    QDialog,
    QDoubleSpinBox,
    QFileDialog,
    QLineEdit,
    QSpinBox,
    QWidget,
)
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis._napari.explain.panel import ExplainPanel
from napari_cnnvis._napari.figure.panel import FigurePanel
from napari_cnnvis._napari.inspect.panel import InspectPanel
from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis._napari.layers.scans import volume_to_layer
from napari_cnnvis._napari.maps.panel import MapsPanel
from napari_cnnvis._napari.scans.panel import ScansPanel
from napari_cnnvis._napari.supervoxels.panel import SupervoxelPanel
from napari_cnnvis._napari.trust.panel import TrustPanel

PANELS = [
    ExplainPanel,
    SupervoxelPanel,
    MapsPanel,
    InspectPanel,
    TrustPanel,
    FigurePanel,
    ScansPanel,
]


@pytest.fixture
def viewer(viewer, monkeypatch):
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: ("", ""))
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_, **__: ([], ""))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: ("", ""))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_, **__: "")
    return viewer


@pytest.fixture
def panels(qtbot, viewer):
    opened = []
    for kind in PANELS:
        panel = kind(viewer)
        qtbot.addWidget(panel)
        panel.show()
        opened.append(panel)
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 4, 3, stride=2), nn.ReLU()),
        *(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)),
    )
    add_scan(viewer, 0)
    opened[0].use_model(cv.Model(net, ["control", "patient"], device="cpu"))
    opened[0].method_form.field("time_budget").setValue(10)
    running = [runner for panel in opened for runner in runners(panel)]
    running.append(opened[0].session.jobs)
    yield opened
    for runner in running:  # their panels are destroyed by now
        runner.cancel()
    qtbot.waitUntil(lambda: not any(runner.busy for runner in running), timeout=60_000)


def runners(panel):
    return [child for child in panel.findChildren(object) if type(child).__name__ == "JobRunner"]


def add_scan(viewer, number):
    data = np.random.default_rng(number).random((12, 13, 14)).astype(np.float32)
    data[:2] = 0
    affine = np.diag([2, 2, 2, 1.0])
    affine[:3, 3] = number
    shown, arguments = volume_to_layer(cv.Volume(data, affine, f"scan {number}"))
    return viewer.add_image(shown, **arguments)


class Robot:
    """Chooses and does one action; what it did is kept for the error message."""

    def __init__(self, viewer, panels, seed):
        self.viewer, self.panels, self.random = viewer, panels, random.Random(seed)
        self.log = []
        self.scans = 1

    def act(self):
        action = self.random.choices(
            [self.press, self.run, self.cancel, self.add, self.delete, self.rename, self.reorder],
            [20, 4, 2, 1, 1, 1, 1],
        )[0]
        action()

    def press(self):
        panel = self.random.choice(self.panels)
        widgets = [w for w in panel.findChildren(QWidget) if w.isEnabled() and w.isVisible()]
        kinds = (QAbstractButton, QComboBox, QAbstractSpinBox, QAbstractSlider)
        widgets = [w for w in widgets if isinstance(w, kinds)]
        if not widgets:
            return
        widget = self.random.choice(widgets)
        text = getattr(widget, "text", lambda: "")()
        self.log.append(f"{type(panel).__name__}: {type(widget).__name__} {text}")
        if isinstance(widget, QComboBox):
            enabled = [i for i in range(widget.count()) if widget.model().item(i).isEnabled()]
            if enabled:
                widget.setCurrentIndex(self.random.choice(enabled))
        elif isinstance(widget, QDoubleSpinBox):
            low = widget.minimum()
            widget.setValue(self.random.uniform(low, min(widget.maximum(), low + 20)))
        elif isinstance(widget, QSpinBox):
            low = widget.minimum()
            widget.setValue(self.random.randint(low, min(widget.maximum(), low + 30)))
        elif isinstance(widget, QAbstractSlider):
            low, high = int(widget.minimum()), int(widget.maximum())
            value = self.random.randint(low, high)
            both = (low, value) if isinstance(widget.value(), tuple) else value
            widget.setValue(both)
        elif isinstance(widget, QCheckBox):
            widget.toggle()
        elif isinstance(widget, QAbstractButton) and "Samples" not in text and "Unload" not in text:
            widget.click()

    def run(self):
        self.log.append("run")
        explain = self.panels[0]
        explain.method_form.field("finest").setValue(self.random.choice([2, 8, 30]))
        explain.run()

    def cancel(self):
        self.log.append("cancel")
        self.panels[0].jobs.cancel()

    def add(self):
        self.log.append("add a scan")
        add_scan(self.viewer, self.scans % 3)
        self.scans += 1

    def delete(self):
        if len(self.viewer.layers) > 1:
            layer = self.random.choice(list(self.viewer.layers))
            self.log.append(f"delete {layer.name}")
            self.viewer.layers.remove(layer)

    def rename(self):
        if self.viewer.layers:
            layer = self.random.choice(list(self.viewer.layers))
            self.log.append(f"rename {layer.name}")
            layer.name = f"layer {self.random.randint(0, 99)}"

    def reorder(self):
        count = len(self.viewer.layers)
        if count > 1:
            self.log.append("reorder")
            self.viewer.layers.move(self.random.randrange(count), self.random.randrange(count))


def check(viewer):
    """Every map lies exactly where a scan of its grid lies."""
    scans = [layer for layer in viewer.layers if map_of(layer) is None]
    for overlay in viewer.layers:
        map_ = map_of(overlay)
        if map_ is None:
            continue
        assert overlay.data.shape == (12, 13, 14)[::-1] or overlay.ndim == 3
        assert np.isfinite(overlay.data).all()
        assert map_.provenance["method"]
        same = [s for s in scans if s.ndim == 3 and s.data.shape == overlay.data.shape]
        if same:
            place = overlay.data_to_world((0, 0, 0))
            assert any(np.allclose(s.data_to_world((0, 0, 0)), place, atol=3.1) for s in same), (
                overlay.name
            )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_hundred_random_actions(qtbot, viewer, panels, seed):
    robot = Robot(viewer, panels, seed)
    for number in range(100):
        try:
            robot.act()
            QApplication.processEvents()
            if number % 10 == 0:
                qtbot.wait(30)
            for window in QApplication.topLevelWidgets():
                if isinstance(window, QDialog) and window.isVisible():
                    window.close()
            check(viewer)
        except BaseException:
            print("\n".join(robot.log[-12:]))
            raise
    for panel in panels:
        for label in panel.findChildren(QLineEdit):
            assert "Traceback" not in label.text()
    assert "Something unexpected" not in panels[0].status.text(), panels[0].status.text()
