"""The guide in a window, and the "?" of a panel that opens it at the panel's page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import (
    QColor,
    QDesktopServices,
    QImage,
    QTextCharFormat,
    QTextCursor,
    QTextDocument,
)
from qtpy.QtWidgets import (
    QBoxLayout,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from napari_cnnvis.guide import page, pages

__all__ = ["GuideWindow", "add_help"]

_LINK = "#3d8fe0"  # Qt takes the system's colour, which napari's dark theme hides
_MARGIN = 40  # pixels beside a picture, for the scroll bar and the document's own


class GuideWindow(QDialog):
    """Shows a page with its pictures, and follows links to others.

    Links to the web open in the browser when they are clicked; nothing is fetched.
    """

    def __init__(self, parent: QWidget | None, name: str) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.browser = _Browser()
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        self.contents = buttons.addButton("Contents", QDialogButtonBox.ButtonRole.ActionRole)
        self.back = buttons.addButton("Back", QDialogButtonBox.ButtonRole.ActionRole)
        self.back.setEnabled(False)
        self.contents.clicked.connect(lambda: self.show_page("index"))
        self.back.clicked.connect(self.browser.backward)
        buttons.rejected.connect(self.close)
        self.browser.backwardAvailable.connect(self.back.setEnabled)
        self.browser.sourceChanged.connect(self._on_page)
        column = QVBoxLayout(self)
        column.addWidget(self.browser)
        column.addWidget(buttons)
        self.resize(760, 640)
        self.show_page(name)

    @property
    def shown(self) -> str:
        """The name of the page that is shown."""
        return _name_of(self.browser.source())

    def show_page(self, name: str) -> None:
        """Show a page from its start."""
        self.browser.setSource(QUrl.fromLocalFile(str(page(name))))

    def _on_page(self, _: QUrl) -> None:
        title = self.browser.document().toPlainText().partition("\n")[0]
        self.setWindowTitle(f"Guide: {title}")


class _Browser(QTextBrowser):
    """Opens pages of the guide only, with pictures no wider than itself."""

    def __init__(self) -> None:
        super().__init__()
        self.setOpenLinks(False)
        self.anchorClicked.connect(self._follow)
        self.sourceChanged.connect(lambda: self._colour_links())

    def loadResource(self, kind: int, url: QUrl) -> Any:
        image = int(getattr(QTextDocument.ResourceType.ImageResource, "value", 2))
        if int(getattr(kind, "value", kind)) != image:
            return super().loadResource(kind, url)
        picture = QImage(self.source().resolved(url).toLocalFile())
        width = max(self.width() - _MARGIN, 1)
        if picture.width() <= width:
            return picture
        return picture.scaledToWidth(width, Qt.TransformationMode.SmoothTransformation)

    def _colour_links(self) -> None:
        colour = QTextCharFormat()
        colour.setForeground(QColor(_LINK))
        cursor = QTextCursor(self.document())
        for start, end in list(self._links()):
            cursor.setPosition(start)
            cursor.setPosition(end, QTextCursor.MoveMode.KeepAnchor)
            cursor.mergeCharFormat(colour)

    def _links(self) -> Iterator[tuple[int, int]]:
        block = self.document().begin()
        while block.isValid():
            parts = block.begin()
            while not parts.atEnd():
                part = parts.fragment()
                if part.charFormat().isAnchor():
                    yield part.position(), part.position() + part.length()
                parts += 1
            block = block.next()

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width() and not self.source().isEmpty():
            at = self.verticalScrollBar().value()
            self.reload()  # pictures in the new width
            self.verticalScrollBar().setValue(at)

    def _follow(self, url: QUrl) -> None:
        if url.scheme() in ("http", "https"):
            QDesktopServices.openUrl(url)
        elif _name_of(url) in pages():
            self.setSource(QUrl.fromLocalFile(str(page(_name_of(url)))))


def add_help(panel: QWidget, name: str) -> None:
    """Put a "?" at the bottom right of a panel, which opens a page of the guide."""
    button = QPushButton("?")
    button.setFixedWidth(button.sizeHint().height())
    button.setObjectName("help")
    button.setToolTip("Open this panel's page of the guide.")
    button.clicked.connect(lambda: GuideWindow(panel, name).show())
    layout = panel.layout()
    assert isinstance(layout, QBoxLayout)
    row = QHBoxLayout()
    last = layout.itemAt(layout.count() - 1).widget()
    if isinstance(last, QLabel):  # beside the status, where it takes no room
        layout.removeWidget(last)
        row.addWidget(last, 1)
    else:
        row.addStretch(1)
    row.addWidget(button, 0, Qt.AlignmentFlag.AlignBottom)
    layout.addLayout(row)


def _name_of(url: QUrl) -> str:
    return url.fileName().removesuffix(".md")
