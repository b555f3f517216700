"""What the network expects of its input, as a form that makes an `InputSpec`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLineEdit,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.intensity import INTENSITY_RULES
from napari_cnnvis.scan.steps.text import as_line, fixed_shape, read_steps

__all__ = ["InputForm"]

_ORIENTATIONS = ("RAS", "LPS", "LAS", "RPS", "LIA", "SAR", "SPL", "PIR", "ASR")
_SIZES = {
    "any": "the whole scan",
    "crop": "pad or crop to",
    "resize": "scale to",
    "window": "windows of",
}
_RULES = {
    "max": "divided by the maximum",
    "mean": "divided by the mean",
    "mean-nonzero": "divided by the mean of non-zero voxels",
    "range": "minimum to maximum → 0 to 1",
    "z-score": "z-score of non-zero voxels",
    "z-score-nonzero": "z-score of non-zero voxels, 0 stays 0",
    "percentile": "1st to 99th percentile → 0 to 1",
    "none": "as they are",
}


class InputForm(QWidget):
    """Steps, size, voxel size, orientation, intensities; emits ``changed()`` when something is edited."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._channels = 1
        self.steps = QLineEdit()
        self.steps.setPlaceholderText("none")
        self.steps.setToolTip(
            "MONAI's transforms of the training, done first and in this order, such as: "
            "Orientation('RAS'), Spacing((1, 1, 1)), ScaleIntensity()"
        )
        self.size = QComboBox()
        for key, text in _SIZES.items():
            self.size.addItem(text, key)
        self.size.setToolTip(
            "How a scan is brought to the network's size: as it is; padded or cropped about its "
            "centre; scaled; or cut into overlapping windows, for networks trained on patches."
        )
        self.shape = _Three(int, "a size in voxels", 96)
        self.shape.setToolTip("Voxels along the network's axes.")
        self.overlap = QDoubleSpinBox()
        self.overlap.setRange(0, 0.9)
        self.overlap.setSingleStep(0.05)
        self.overlap.setToolTip("Share of a window that overlaps with the next one.")
        self.voxels = QComboBox()
        self.voxels.addItem("as in the scan", False)
        self.voxels.addItem("resampled to (mm)", True)
        self.spacing = _Three(float, "a voxel size in mm", 1)
        self.spacing.setToolTip("Millimetres between voxels along the network's axes.")
        self.orientation = QComboBox()
        self.orientation.setEditable(True)
        self.orientation.addItem("as stored", None)
        for letters in _ORIENTATIONS:
            self.orientation.addItem(letters, letters)
        self.orientation.setToolTip(
            "Where the network's first, second and third axis point to: R(ight) or L(eft), A(nterior) "
            "or P(osterior), S(uperior) or I(nferior)."
        )
        self.intensity = QComboBox()
        for rule in INTENSITY_RULES:
            self.intensity.addItem(_RULES[rule], rule)
        self.intensity.setEditable(True)
        self.intensity.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.intensity.setToolTip(
            "How intensities were scaled in training. Several rules are typed with commas between "
            "them, such as: mean, clip 0 8"
        )
        self.form = QFormLayout(self)
        self.form.setContentsMargins(0, 0, 0, 0)
        self.form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        for label, widget in [
            ("Steps", self.steps),
            ("Size", self.size),
            ("", self.shape),
            ("Overlap", self.overlap),
            ("Voxels", self.voxels),
            ("", self.spacing),
            ("Axes", self.orientation),
            ("Intensities", self.intensity),
        ]:
            self.form.addRow(label, widget)
        for box in (self.size, self.voxels):
            box.currentIndexChanged.connect(self._edited)
        self.orientation.currentTextChanged.connect(self._edited)
        self.intensity.currentTextChanged.connect(self._edited)
        self.overlap.valueChanged.connect(self._edited)
        self.steps.textEdited.connect(self._steps_edited)
        self.shape.changed.connect(self._edited)
        self.spacing.changed.connect(self._edited)
        self.show_spec(InputSpec())

    def show_spec(self, spec: InputSpec) -> None:
        """Fill the form; nothing is emitted."""
        with signals_blocked(self):
            self._channels = spec.channels
            self.steps.setText(as_line(spec.steps))
            self.steps.setCursorPosition(0)
            self._had_steps = bool(spec.steps)
            kind = "any"
            if spec.window:
                kind = "window"
            elif spec.shape and spec.shape != fixed_shape(spec.steps):
                kind = "resize" if spec.resize else "crop"
            self.size.setCurrentIndex(self.size.findData(kind))
            if spec.net_shape:
                self.shape.set(spec.net_shape)
            self.overlap.setValue(spec.overlap)
            self.voxels.setCurrentIndex(self.voxels.findData(spec.spacing is not None))
            if spec.spacing:
                self.spacing.set(spec.spacing)
            self.orientation.setCurrentText(spec.orientation or "as stored")
            self.intensity.setCurrentText(_RULES.get(str(spec.intensity), str(spec.intensity)))
        self._show_rows()

    def spec(self) -> InputSpec:
        """What the form says.

        Raises
        ------
        VolumeError
            If the steps, the orientation or three numbers are none.
        """
        kind = self.size.currentData()
        shape = None if kind == "any" else self.shape.get()
        steps = read_steps(self.steps.text())
        text = self.orientation.currentText().strip()
        rules = self.intensity.currentText().strip()
        return InputSpec(
            shape=shape if kind in ("crop", "resize") else None,
            spacing=self.spacing.get() if self.voxels.currentData() and not steps else None,
            orientation=None if steps or text in ("", "as stored") else text,
            intensity=next((rule for rule, said in _RULES.items() if said == rules), rules),
            channels=self._channels,
            window=shape if kind == "window" else None,
            overlap=self.overlap.value(),
            resize=kind == "resize",
            steps=steps,
        )

    def _steps_edited(self) -> None:
        """The first steps that are typed take the place of the intensity rule; what they end in shows."""
        try:
            steps = read_steps(self.steps.text())
        except VolumeError:
            self._edited()
            return
        if bool(steps) != self._had_steps:
            self._had_steps = bool(steps)
            with signals_blocked(self):
                self.intensity.setCurrentText(_RULES["none" if steps else "max"])
        self._edited()

    def _edited(self) -> None:
        self._show_rows()
        self.changed.emit()

    def _show_rows(self) -> None:
        kind = self.size.currentData()
        stepwise = bool(self.steps.text().strip())
        self.form.setRowVisible(self.voxels, not stepwise)
        self.form.setRowVisible(self.orientation, not stepwise)
        self.form.setRowVisible(self.shape, kind != "any")
        self.form.setRowVisible(self.overlap, kind == "window")
        self.form.setRowVisible(self.spacing, bool(self.voxels.currentData()) and not stepwise)


class _Three(QLineEdit):
    """Three numbers in one line, such as "96 × 112 × 96"; one number stands for all three."""

    changed = Signal()

    def __init__(self, kind: Callable[[str], Any], what: str, value: float) -> None:
        super().__init__()
        self._kind, self._what = kind, what
        self.set((value,) * 3)
        self.textEdited.connect(lambda: self.changed.emit())

    def get(self) -> tuple[Any, ...]:
        """The numbers.

        Raises
        ------
        VolumeError
            If they are not three positive numbers.
        """
        parts = re.split(r"[\s×x,;]+", self.text().strip())
        try:
            numbers = tuple(self._kind(part) for part in parts)
        except ValueError:
            numbers = ()
        if len(numbers) == 1:
            numbers *= 3
        if len(numbers) != 3 or min(numbers) <= 0:
            raise VolumeError(
                f"'{self.text()}' is not {self._what}; write three positive numbers such as "
                f"{' × '.join([str(self._kind('2'))] * 3)}."
            )
        return numbers

    def set(self, values: Any) -> None:
        """Show other numbers."""
        self.setText(" × ".join(f"{value:g}" for value in values))
