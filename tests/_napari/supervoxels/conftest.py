"""The panel "Supervoxels", with a scan and with a hierarchy."""

import pytest
from napari.components import ViewerModel

from napari_cnnvis._napari.layers.scans import volume_to_layer
from napari_cnnvis._napari.supervoxels.panel import SupervoxelPanel

from .region_steps import idle, make_scan


@pytest.fixture
def panel(qtbot):
    viewer = ViewerModel()
    panel = SupervoxelPanel(viewer)
    qtbot.addWidget(panel)
    panel.viewer = viewer
    yield panel
    panel.jobs.cancel()
    qtbot.waitUntil(lambda: not panel.jobs.busy, timeout=60_000)


@pytest.fixture
def scan(panel):
    data, attributes = volume_to_layer(make_scan())
    return panel.viewer.add_image(data, **attributes)


@pytest.fixture
def built(qtbot, panel, scan):
    panel.build_button.click()
    idle(qtbot, panel)
    assert panel.status.text() == ""
    return panel
