"""A slider over the number of regions, about even in its logarithm, with a box to type it in."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QSlider, QSpinBox, QWidget
from superqt.utils import signals_blocked

__all__ = ["RegionSlider"]

#: positions of the slider where there are more numbers to choose from
_POSITIONS = 500


class RegionSlider(QWidget):
    """Chooses one of the numbers of regions that a hierarchy can be cut into."""

    #: the number of regions, while the slider is dragged
    changed = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setMinimumWidth(90)
        self.box = _CountBox()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.slider, 1)
        row.addWidget(self.box)
        self._value = 1
        self.offer(np.array([1]))
        self.slider.valueChanged.connect(lambda place: self._choose(self._places[place]))
        self.box.valueChanged.connect(self._choose)

    def offer(self, counts: np.ndarray) -> None:
        """Choose among these numbers, rising; the chosen one stays as near as it can."""
        self.box.counts = counts
        if len(counts) > _POSITIONS:
            wanted = np.geomspace(counts[0], counts[-1], _POSITIONS).round()
            counts = np.unique(counts[np.searchsorted(counts, wanted)])
        self._places = counts
        self._quietly(self.slider.setRange, 0, len(counts) - 1)
        self._quietly(self.box.setRange, int(counts[0]), int(counts[-1]))
        self.setEnabled(len(counts) > 1)
        self.show_value(self._value)

    @property
    def value(self) -> int:
        """The chosen number of regions."""
        return self._value

    def show_value(self, count: int) -> None:
        """Choose a number without telling anyone; the nearest of those there are."""
        self._value = self.box.nearest(count)
        place = int(np.abs(np.log(self._places / self._value)).argmin())
        self._quietly(self.slider.setValue, place)
        self._quietly(self.box.setValue, self._value)

    def _choose(self, count: int) -> None:
        before = self._value
        self.show_value(int(count))
        if self._value != before:
            self.changed.emit(self._value)

    def _quietly(self, act, *values: int) -> None:
        with signals_blocked(self.slider), signals_blocked(self.box):
            act(*values)


class _CountBox(QSpinBox):
    """Steps through the numbers that there are."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = np.array([1])
        self.setKeyboardTracking(False)
        self.setGroupSeparatorShown(True)

    def nearest(self, count: int) -> int:
        return int(self.counts[np.abs(self.counts - count).argmin()])

    def stepBy(self, steps: int) -> None:
        place = int(np.searchsorted(self.counts, self.value()))
        self.setValue(int(self.counts[np.clip(place + steps, 0, len(self.counts) - 1)]))
