"""The panel "Figure", empty and with a scan and a map."""

import pytest
from napari.components import ViewerModel

from napari_cnnvis._napari.figure.panel import FigurePanel

from .marked_scans import add, make_scan


@pytest.fixture
def panel(qtbot):
    viewer = ViewerModel()
    panel = FigurePanel(viewer)
    qtbot.addWidget(panel)
    panel.viewer = viewer
    panel.form.size.show_size(60, 60)
    yield panel
    qtbot.waitUntil(lambda: not panel.jobs.busy, timeout=60_000)


@pytest.fixture
def loaded(panel):
    panel.scan_layer, panel.overlay = add(panel.viewer, make_scan())
    return panel
