"""Buttons that go from peak to peak of a map."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_cnnvis._napari.layers.place import affine_of, place_text
from napari_cnnvis.evaluate.peaks import Extrema, Peak, find_extrema

__all__ = ["PeakBrowser"]

#: so many peaks are gone through at most
_MOST = 100
_HINT = "The highest peaks of the map, at least 8 mm apart."


class PeakBrowser(QWidget):
    """Lists the peaks of what is shown of a map, and chooses one."""

    #: the voxel of the peak that was chosen, a tuple of int
    chosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._view: Any = None
        self._extrema: Extrema | None = None
        self.peaks: list[Peak] = []
        #: which of them was chosen last
        self.current: int | None = None
        self.jump = QPushButton("Jump to peak")
        self.jump.setToolTip("Go to the strongest peak of the map.")
        self.previous = QPushButton("◀ Previous")
        self.previous.setToolTip("The next stronger peak.")
        self.next = QPushButton("Next ▶")
        self.next.setToolTip("The next weaker peak.")
        self.said = QLabel(_HINT)
        self.said.setWordWrap(True)
        row = QHBoxLayout()
        for button in (self.jump, self.previous, self.next):
            row.addWidget(button, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(row)
        column.addWidget(self.said)
        self.jump.clicked.connect(lambda: self.choose(0))
        self.previous.clicked.connect(lambda: self.step(-1))
        self.next.clicked.connect(lambda: self.step(1))
        self.look_at(None)

    def look_at(self, view: Any) -> None:
        """Go through the peaks of a `MapView`; None for no map."""
        self._view = view
        self.setEnabled(view is not None)
        self.forget()

    def forget(self) -> None:
        """Notice that the map has other values; its peaks are sought when they are asked for."""
        self._extrema, self.peaks, self.current = None, [], None
        self.said.setText(_HINT)

    def refresh(self) -> None:
        """Leave out the peaks that are not shown (any more); the chosen one stays chosen."""
        if self._extrema is None:
            return
        at = None if self.current is None else self.peaks[self.current]
        self._list()
        self.current = self.peaks.index(at) if at in self.peaks else None
        self._say()

    def choose(self, index: int) -> None:
        """Choose a peak by its rank, from 0; before the first comes the last."""
        if self._view is None:
            return
        if self._extrema is None:
            self._extrema = find_extrema(
                self._view.values, affine_of(self._view.layer), self._view.signed
            )
            self._list()
        if self.peaks:
            self.current = index % len(self.peaks)
            self.chosen.emit(self.peaks[self.current].voxel)
        self._say()

    def step(self, by: int) -> None:
        """Choose the next peak, or the one before; the first if none was chosen."""
        self.choose(0 if self.current is None else self.current + by)

    def _list(self) -> None:
        self.peaks = self._extrema.peaks(
            _MOST, threshold=self._view.threshold, inside=self._view.mask
        )

    def _say(self) -> None:
        if not self.peaks:
            self.said.setText("Nothing of this map is above the threshold.")
        elif self.current is None:
            self.said.setText(f"{len(self.peaks)} peaks above the threshold.")
        else:
            peak = self.peaks[self.current]
            self.said.setText(
                f"peak {self.current + 1} of {len(self.peaks)}: {peak.value:.3g} at "
                + place_text(self._view.layer, peak.mm)
            )
