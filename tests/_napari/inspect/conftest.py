"""A viewer with a scan, and the panel "Inspect"."""

import numpy as np
import pytest

from napari_cnnvis._napari.inspect.panel import InspectPanel
from napari_cnnvis._napari.layers.scans import volume_to_layer

from .made_maps import make_volume


@pytest.fixture
def scan(viewer):
    data, attributes = volume_to_layer(make_volume("RAS", np.diag([1.0, 1.5, 2.0, 1])))
    return viewer.add_image(data, **attributes)


@pytest.fixture
def panel(qtbot, viewer):
    panel = InspectPanel(viewer)
    qtbot.addWidget(panel)
    yield panel
    qtbot.waitUntil(lambda: not panel.regions.jobs.busy, timeout=30_000)
