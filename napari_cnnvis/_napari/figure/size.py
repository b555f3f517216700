"""How large a picture is: millimetres, dots per inch, and the pixels that they make."""

from __future__ import annotations

from qtpy.QtWidgets import QDoubleSpinBox, QGridLayout, QSpinBox, QWidget
from superqt.utils import signals_blocked

__all__ = ["SizeRow"]


class SizeRow(QWidget):
    """Width in mm, dpi and width in pixels; what is edited last counts."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.width_mm = QDoubleSpinBox()
        self.width_mm.setRange(30, 2000)
        self.width_mm.setDecimals(1)
        self.width_mm.setValue(180)
        self.width_mm.setToolTip("Width in print; a page's text is often 85 or 180 mm wide.")
        self.resolution = QDoubleSpinBox()
        self.resolution.setRange(10, 2400)
        self.resolution.setDecimals(1)
        self.resolution.setValue(300)
        self.resolution.setToolTip("Dots per inch.")
        self.pixels = QSpinBox()
        self.pixels.setRange(50, 20_000)
        self.pixels.setToolTip("Width in pixels; changing it changes the dpi.")
        self._dpi = 300.0
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        for box, suffix, row, column in (
            (self.width_mm, " mm wide", 0, 0),
            (self.resolution, " dpi", 0, 1),
            (self.pixels, " px", 1, 0),
        ):
            box.setKeyboardTracking(False)
            box.setSuffix(suffix)
            box.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
            grid.addWidget(box, row, column)
        self._show_pixels()
        self.width_mm.valueChanged.connect(self._show_pixels)
        self.resolution.valueChanged.connect(self._on_dpi)
        self.pixels.valueChanged.connect(self._on_pixels)

    @property
    def dpi(self) -> float:
        """Dots per inch, not rounded to what its box shows."""
        return self._dpi

    def show_size(self, width_mm: float, dpi: float) -> None:
        """Set both."""
        self.width_mm.setValue(width_mm)
        self._show_dpi(dpi)
        self._show_pixels()

    def _on_dpi(self, dpi: float) -> None:
        self._dpi = dpi
        self._show_pixels()

    def _on_pixels(self, pixels: int) -> None:
        self._show_dpi(pixels / self.width_mm.value() * 25.4)

    def _show_dpi(self, dpi: float) -> None:
        self._dpi = dpi
        with signals_blocked(self.resolution):
            self.resolution.setValue(dpi)

    def _show_pixels(self) -> None:
        with signals_blocked(self.pixels):
            self.pixels.setValue(round(self.width_mm.value() / 25.4 * self._dpi))
