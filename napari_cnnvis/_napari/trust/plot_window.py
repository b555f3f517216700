"""A window with the plot behind a verdict, drawn in the background at the window's size."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QRect, Qt
from qtpy.QtGui import QImage, QPainter
from qtpy.QtWidgets import QDialog, QLabel, QVBoxLayout, QWidget
from superqt.utils import qdebounced

from napari_cnnvis._napari.widgets.jobs import JobRunner

__all__ = ["PlotWindow"]

#: dots per inch of the plot, on a screen whose pixels are not doubled
_DPI = 110
#: the plot follows the window's size when that has rested for so long, in milliseconds
_REST = 150


class PlotWindow(QDialog):
    """Shows the plot of a `TrustReport`.

    Parameters
    ----------
    report : TrustReport
    colours : (str, str)
        Of text and lines, and of the ground.
    """

    def __init__(self, parent: QWidget, report: Any, colours: tuple[str, str]) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Trust: {report.attribution.name}")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._report, self._colours = report, colours
        self.jobs = JobRunner(self)
        self.plot = _Picture(colours[1])
        self.status = QLabel("Drawing …")
        self.status.setWordWrap(True)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.plot, 1)
        column.addWidget(self.status)
        self._draw_soon = qdebounced(self._draw, timeout=_REST, parent=self)
        self.jobs.failed.connect(lambda text: self.status.setText(f"⚠ {text}"))
        self.resize(1000, 680)

    def resizeEvent(self, event: Any) -> None:
        """Draw again for the new size."""
        super().resizeEvent(event)
        self._draw_soon()

    def _draw(self) -> None:
        if self.jobs.busy:
            self._draw_soon()
            return
        report, colours = self._report, self._colours
        ratio = self.devicePixelRatioF()
        width, height = (max(round(n * ratio), 200) for n in (self.width(), self.height()))

        def job(progress: Any, cancel: Any) -> np.ndarray:
            return picture_of(report, width, height, _DPI * ratio, colours)

        def done(pixels: np.ndarray) -> None:
            self.status.hide()
            self.plot.show_pixels(pixels, ratio)

        self.jobs.start("Drawing", job, done)


class _Picture(QWidget):
    """Shows pixels, fitted while the window's size changes."""

    def __init__(self, ground: str) -> None:
        super().__init__()
        self.image: QImage | None = None
        self.setStyleSheet(f"background: {ground}")

    def show_pixels(self, pixels: np.ndarray, ratio: float) -> None:
        height, width = pixels.shape[:2]
        kind = QImage.Format.Format_RGBA8888
        self.image = QImage(pixels.tobytes(), width, height, 4 * width, kind).copy()
        self.image.setDevicePixelRatio(ratio)
        self.update()

    def paintEvent(self, event: Any) -> None:
        """Draw the picture in the middle, as large as it fits."""
        if self.image is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        size = self.image.size().scaled(self.size(), Qt.AspectRatioMode.KeepAspectRatio)
        place = QRect(0, 0, size.width(), size.height())
        place.moveCenter(self.rect().center())
        painter.drawImage(place, self.image)


def picture_of(
    report: Any, width: int, height: int, dpi: float, colours: tuple[str, str]
) -> np.ndarray:
    """The plot as pixels, uint8, shape (height, width, 4); to be called in a worker."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from napari_cnnvis.evaluate.trust.plot import draw

    figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi)
    canvas = FigureCanvasAgg(figure)
    draw(report, figure, *colours)
    canvas.draw()
    return np.array(canvas.buffer_rgba())
