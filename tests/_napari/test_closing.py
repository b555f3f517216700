"""Jobs run beside the window: it lives on while they run, and closes in the middle of one."""

import time

import numpy as np
import pytest
import torch
from napari.components import ViewerModel
from qtpy.QtCore import QTimer
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis._napari.explain.panel import ExplainPanel

PANELS = ["Explain CNN", "Supervoxels", "Maps", "Inspect", "Trust", "Figure", "Scans"]


class Slow(nn.Module):
    """A network that takes its time, without keeping Python from running elsewhere."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds
        self.conv, self.fc = nn.Conv3d(1, 2, 3, padding=1), nn.Linear(2, 2)

    def forward(self, x):
        if not x.is_meta:
            time.sleep(self.seconds)
        return self.fc(self.conv(x).mean((2, 3, 4)))


@pytest.fixture
def scan():
    data = np.random.default_rng(0).random((20, 20, 20)).astype(np.float32)
    data[:3] = 0
    return data


@pytest.mark.parametrize("method", ["cam", "grad-cam", "sensitivity", "box"])
def test_the_window_lives_while_a_job_runs(qtbot, scan, method):
    viewer = ViewerModel()
    viewer.add_image(scan, name="scan")
    panel = ExplainPanel(viewer)
    qtbot.addWidget(panel)
    torch.manual_seed(0)
    panel.use_model(cv.Model(Slow(0.0), device="cpu"))
    qtbot.waitUntil(lambda: panel.ready and not panel.jobs.busy, timeout=60_000)
    panel.session.model.module.seconds = 0.15
    panel.method_form.choose_method(method)
    panel.method_form.field("finest").setValue(4)
    panel.method_form.field("stride").setValue(10)
    panel.method_form.field("time_budget").setValue(10)
    ticks = []
    heart = QTimer()
    heart.setInterval(10)
    heart.timeout.connect(lambda: ticks.append(time.perf_counter()))
    heart.start()
    panel.run()
    qtbot.waitUntil(lambda: not panel.jobs.busy, timeout=60_000)
    heart.stop()
    # a job on the main thread would stop the heart for as long as the network runs
    assert len(ticks) >= 5
    assert np.median(np.diff(ticks)) < 0.1
    assert "⚠" not in panel.status.text()


@pytest.mark.parametrize("method", ["sensitivity", "box"])
def test_closing_the_window_in_the_middle_of_a_run(make_napari_viewer, qtbot, scan, method):
    viewer = make_napari_viewer(strict_qt=True)
    viewer.add_image(scan, name="scan")
    panels = [viewer.window.add_plugin_dock_widget("napari-cnnvis", name)[1] for name in PANELS]
    explain = panels[0]
    torch.manual_seed(0)
    explain.use_model(cv.Model(Slow(0.02), device="cpu"))
    qtbot.waitUntil(lambda: explain.ready and not explain.jobs.busy, timeout=60_000)
    explain.method_form.choose_method(method)
    explain.method_form.field("stride").setValue(2)
    explain.run()
    qtbot.waitUntil(lambda: "of" in explain.status.text(), timeout=60_000)
    runner = explain.jobs
    assert runner.busy
    viewer.close()
    qtbot.waitUntil(lambda: not runner.busy, timeout=60_000)
