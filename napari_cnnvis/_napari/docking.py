"""Panels of this plugin share one place in the window, as tabs."""

from __future__ import annotations

import itertools
from typing import Any

from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from napari_cnnvis._napari.panels import register, unregister

__all__ = ["DockedPanel"]


class DockedPanel(QWidget):
    """A panel that becomes a tab beside another of this plugin when it is docked.

    napari would stack them, and a small screen has no room for two.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        By which other panels find this one; see `panel_of`.
    """

    _count = itertools.count()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.opened = next(self._count)
        register(self, viewer)
        self._beside = QTimer(self)  # dies with the panel
        self._beside.setSingleShot(True)
        self._beside.timeout.connect(self._tab_with_others)

    def event(self, event: QEvent) -> bool:
        """Notice that the panel was put into a dock, or that napari took it out to close it."""
        if event.type() == QEvent.Type.ParentChange:
            if isinstance(self.parent(), QDockWidget):
                self._beside.start(0)
                self.docked()
            elif self.parent() is None:
                unregister(self)
                self.closed()
        return super().event(event)

    def docked(self) -> None:
        """Called when the panel comes into a window."""

    def closed(self) -> None:
        """Called when the panel was closed."""

    def _tab_with_others(self) -> None:
        dock = self.parent()
        window = dock.parent() if isinstance(dock, QDockWidget) else None
        if not isinstance(window, QMainWindow) or window.tabifiedDockWidgets(dock):
            return
        area = window.dockWidgetArea(dock)
        for other in window.findChildren(QDockWidget):
            same_place = window.dockWidgetArea(other) == area and not other.isFloating()
            if other is not dock and same_place and isinstance(other.widget(), DockedPanel):
                window.tabifyDockWidget(other, dock)
                dock.raise_()
                return
