"""The panel "Supervoxels", with a scan and with a hierarchy."""

import pytest

from napari_cnnvis._napari.layers.scans import volume_to_layer
from napari_cnnvis._napari.supervoxels.panel import SupervoxelPanel

from ..waiting import settle
from .region_steps import make_scan


@pytest.fixture
def panel(opened):
    return opened(SupervoxelPanel)


@pytest.fixture
def scan(panel):
    data, attributes = volume_to_layer(make_scan())
    return panel.viewer.add_image(data, **attributes)


@pytest.fixture
def built(qtbot, panel, scan):
    panel.build_button.click()
    settle(qtbot, panel)
    assert panel.status.text() == ""
    return panel
