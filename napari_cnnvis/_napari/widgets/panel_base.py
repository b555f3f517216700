"""What every panel of this plugin has: its place in the window, what it says, its progress."""

from __future__ import annotations

import time
from functools import cached_property, partial
from typing import Any

from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer
from qtpy.QtWidgets import (
    QDockWidget,
    QHBoxLayout,
    QLabel,
    QLayout,
    QMainWindow,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_cnnvis._napari.session.session import Session
from napari_cnnvis._napari.session.viewers import session_of
from napari_cnnvis._napari.widgets.jobs import JobRunner, time_left
from napari_cnnvis.progress import Progress

__all__ = ["DockedPanel", "button", "row"]


class _UpAndDown(QScrollArea):
    """Scrolls its content up and down, and is never narrower than it is."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(content)

    def minimumSizeHint(self) -> QSize:
        """Wide enough for the content beside the scroll bar."""
        hint = super().minimumSizeHint()
        bar = self.verticalScrollBar().sizeHint().width()
        needed = self.widget().minimumSizeHint().width() + bar + 2 * self.frameWidth()
        return QSize(max(hint.width(), needed), hint.height())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """The content's rows may have become wider."""
        if watched is self.widget() and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)


class DockedPanel(QWidget):
    """A panel that becomes a tab beside another of this plugin when it is docked.

    napari would stack them, and a small screen has no room for two.

    Parameters
    ----------
    viewer : napari.viewer.Viewer

    lines : int
        Room that the status line keeps, in lines of text.
    width : int
        Pixels that it needs.

    Attributes
    ----------
    session : Session
        What is at work in the viewer.
    """

    def __init__(self, viewer: Any, lines: int = 1, width: int = 380) -> None:
        super().__init__()
        self._began, self._stage = 0.0, ""
        self._lines = lines
        self.setMinimumWidth(width)
        self.session = session_of(viewer)
        self._leave = partial(self.session.leave, self.session.enter())
        self.destroyed.connect(self._leave)
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
                self.closed()
                self._leave()
        return super().event(event)

    def docked(self) -> None:
        """Called when the panel comes into a window."""

    def closed(self) -> None:
        """Called when the panel was closed."""

    # --- its parts -------------------------------------------------------------------

    @cached_property
    def status(self) -> QLabel:
        """Says what is going on; made for the panel that has it."""
        label = QLabel()
        label.setWordWrap(True)
        label.setAlignment(Qt.AlignmentFlag.AlignTop)
        label.setMinimumHeight(self._lines * label.fontMetrics().lineSpacing())
        label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        return label

    @cached_property
    def bar(self) -> QProgressBar:
        """How far a job is."""
        return QProgressBar()

    @cached_property
    def cancel_button(self) -> QPushButton:
        """Stops a job."""
        return QPushButton("Cancel")

    def lay_out(self, content: QWidget, *below: QWidget | QLayout) -> None:
        """Put the content into a scroll area, and what is given below it."""
        scroll = _UpAndDown(content)
        column = QVBoxLayout(self)
        column.addWidget(scroll, 1)
        for part in below:
            if isinstance(part, QLayout):
                column.addLayout(part)
            else:
                column.addWidget(part)

    def say(self, text: str) -> None:
        """Show a sentence."""
        self.status.setText(text)

    def warn(self, text: str) -> None:
        """Show what went wrong."""
        self.say(f"⚠ {text}")

    # --- its progress ----------------------------------------------------------------

    def follow(self, jobs: JobRunner | Session) -> None:
        """Show what jobs are doing and what they fail of."""
        jobs.started.connect(self.begin)
        jobs.progressed.connect(self.advance)
        jobs.failed.connect(self.warn)
        jobs.stopped.connect(self.say)

    def begin(self, what: str) -> None:
        """Show that a job has begun."""
        self._began, self._stage = time.monotonic(), ""
        self.bar.setRange(0, 0)
        self.say(what + " …")

    def advance(self, progress: Progress) -> None:
        """Show how far a job is, and how long its present stage may still take."""
        stage = progress.what.partition(":")[0]
        if stage != self._stage:
            self._began, self._stage = time.monotonic(), stage
        self.bar.setRange(0, progress.total)
        self.bar.setValue(progress.done)
        left = time_left(progress, time.monotonic() - self._began)
        self.say(self.progress_text(progress, left))

    def progress_text(self, progress: Progress, left: str) -> str:
        """What is said of a job on its way; `left` is how long it may take, or ""."""
        counts = f"{progress.what}: {progress.done} of {progress.total}"
        return ", ".join(filter(None, [counts[0].upper() + counts[1:], left]))

    # --- its place in the window -----------------------------------------------------

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


def button(text: str, tip: str) -> QPushButton:
    """A button that says what it does."""
    made = QPushButton(text)
    made.setToolTip(tip)
    return made


def row(*widgets: QWidget, stretch: tuple[int, ...] = ()) -> QHBoxLayout:
    """Widgets side by side, equally wide unless told otherwise."""
    made = QHBoxLayout()
    for number, widget in enumerate(widgets):
        made.addWidget(widget, stretch[number] if stretch else 1)
    return made
