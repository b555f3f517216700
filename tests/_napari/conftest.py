"""A viewer without a window, and panels in it whose work ends with the test."""

import pytest
from napari.components import ViewerModel

from .waiting import settle


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def opened(qtbot, viewer):
    """Opens a panel in the viewer, which the panel then has as `viewer`."""
    panels = []

    def open_panel(kind):
        panel = kind(viewer)
        qtbot.addWidget(panel)
        panel.viewer = viewer
        panels.append(panel)
        return panel

    yield open_panel
    for panel in panels:
        panel.jobs.cancel()
        settle(qtbot, panel)
