"""The panel "Figure", empty and with a scan and a map."""

import pytest

from napari_cnnvis._napari.figure.panel import FigurePanel

from .marked_scans import add, make_scan


@pytest.fixture
def panel(opened):
    panel = opened(FigurePanel)
    panel.form.size.show_size(60, 60)
    return panel


@pytest.fixture
def loaded(panel):
    panel.scan_layer, panel.overlay = add(panel.viewer, make_scan())
    return panel
