"""Weights of a hierarchy's levels, as a row of sliders."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSlider, QVBoxLayout, QWidget

__all__ = ["LevelWeights"]


class LevelWeights(QWidget):
    """One slider for each level, fine to coarse; emits ``changed()`` when one is moved."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self.sliders: list[QSlider] = []
        self._counts: tuple[int, ...] = ()

    def show_levels(self, counts: Sequence[int]) -> None:
        """Offer a slider for each level of so many regions; the weights stay if they are the same."""
        if tuple(counts) == self._counts:
            return
        self._counts = tuple(counts)
        while self._row.count():
            self._row.takeAt(0).widget().deleteLater()
        self.sliders = []
        for count in counts:
            column = QWidget()
            inside = QVBoxLayout(column)
            inside.setContentsMargins(0, 0, 0, 0)
            inside.setSpacing(1)
            slider = QSlider(Qt.Orientation.Vertical)
            slider.setRange(0, 10)
            slider.setValue(10)
            slider.setFixedHeight(48)
            slider.setToolTip(f"How much the level of {count} regions counts.")
            slider.valueChanged.connect(lambda: self.changed.emit())
            label = QLabel(str(count))
            label.setAlignment(Qt.AlignmentFlag.AlignHCenter)
            inside.addWidget(slider, 0, Qt.AlignmentFlag.AlignHCenter)
            inside.addWidget(label)
            self._row.addWidget(column)
            self.sliders.append(slider)

    def weights(self) -> list[float] | None:
        """The weights from 0 to 1; None if all are alike, or none counts."""
        values = [slider.value() / 10 for slider in self.sliders]
        return None if len(set(values)) < 2 else values
