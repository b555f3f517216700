"""Which baselines a run takes: one, or several to see how much they disagree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QGridLayout, QWidget

from napari_cnnvis._napari.layers.scans import layer_to_volume, snapshot
from napari_cnnvis._napari.widgets.layer_picker import LayerPicker
from napari_cnnvis.explain.parameter import BASELINES, Baseline

__all__ = ["BaselinePicker"]

_NAMES = {"blur": "Blurred scan", "border": "Border mean", "noise": "Noise"}


class BaselinePicker(QWidget):
    """A tick for each baseline; the number and the scan have their own field."""

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.named = {name: QCheckBox(_NAMES[name]) for name in BASELINES}
        for name, box in self.named.items():
            box.setToolTip(f"A voxel becomes {BASELINES[name]}.")
        self.named["blur"].setChecked(True)
        self.number = QCheckBox("Value")
        self.value = QDoubleSpinBox()
        self.value.setRange(-1e6, 1e6)
        self.value.setDecimals(3)
        self.value.setSingleStep(0.1)
        self.value.setToolTip(
            "In the units that the network sees. 0 is the reference's; on T1 it looks like CSF, "
            "and can invert the map's sign."
        )
        self.number.setToolTip(self.value.toolTip())
        self.scan = QCheckBox("Scan")
        self.scan.setToolTip(
            "Another scan on the same grid, such as the average of the controls: what if this "
            "region looked like that?"
        )
        self.layer = LayerPicker(viewer)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        places = [*self.named.values(), self.number, self.value, self.scan, self.layer]
        for place, widget in zip(
            [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (3, 0), (3, 1)], places, strict=True
        ):
            grid.addWidget(widget, *place)
        grid.setColumnStretch(1, 1)
        for wide in (self.value, self.layer):  # as wide as the panel, not as the longest entry
            wide.setMinimumWidth(90)
        self.setToolTip(
            "What an occluded voxel becomes. Tick several to see how much they disagree: where "
            "they do, the map says more about the baseline than about the network."
        )
        self.value.setEnabled(False)
        self.layer.setEnabled(False)
        self.number.toggled.connect(self.value.setEnabled)
        self.scan.toggled.connect(self.layer.setEnabled)

    def baselines(self) -> tuple[Baseline, ...]:
        """The ticked ones; a scan as a Volume."""
        chosen: list[Baseline] = [name for name, box in self.named.items() if box.isChecked()]
        if self.number.isChecked():
            chosen.append(self.value.value())
        if self.scan.isChecked() and self.layer.layer is not None:
            chosen.append(layer_to_volume(*snapshot(self.layer.layer)))
        return tuple(chosen)

    def show_baselines(self, baselines: Baseline | Sequence[Baseline]) -> None:
        """Tick these names and this number; scans are left as they are."""
        given = baselines if isinstance(baselines, list | tuple) else [baselines]
        for name, box in self.named.items():
            box.setChecked(name in given)
        numbers = [b for b in given if isinstance(b, int | float)]
        self.number.setChecked(bool(numbers))
        if numbers:
            self.value.setValue(float(numbers[0]))
        self.scan.setChecked(False)
