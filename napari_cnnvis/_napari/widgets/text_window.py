"""A window with text that does not hold up the viewer."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QTextBrowser, QVBoxLayout, QWidget

__all__ = ["show_text"]


def show_text(parent: QWidget, title: str, html: str) -> QDialog:
    """Open it."""
    window = QDialog(parent)
    window.setWindowTitle(title)
    text = QTextBrowser()
    text.setHtml(html)
    close = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
    close.rejected.connect(window.close)
    column = QVBoxLayout(window)
    column.addWidget(text)
    column.addWidget(close)
    window.resize(640, 420)
    window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    window.show()
    return window
