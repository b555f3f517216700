"""The field of a method's parameter in a form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from magicgui.widgets import create_widget
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QComboBox, QWidget
from superqt.utils import signals_blocked

from napari_cnnvis._napari.explain.baseline_picker import BaselinePicker
from napari_cnnvis._napari.explain.layer_tree import LayerTree
from napari_cnnvis._napari.explain.level_weights import LevelWeights
from napari_cnnvis.explain.parameter import Parameter
from napari_cnnvis.ucm.options import FINEST

__all__ = ["ClassField", "ParameterField", "field_of"]

#: what fields show at first where a default of None would say nothing
_FIRST = {"finest": FINEST}
#: largest values of fields, by unit, and of those without one
_LARGEST = {"mm": 50, "voxels": 99, "s": 100_000, "": 5_000}


class ParameterField(QObject):
    """A parameter's widget, and a signal when its value changes.

    Each kind has ``value``, what the field says as the method takes it, and ``show(value)``,
    which fills one in.
    """

    changed = Signal()

    def __init__(self, parameter: Parameter, widget: QWidget) -> None:
        super().__init__(widget)
        self.name, self.widget, self._parameter = parameter.name, widget, parameter
        self.label = "" if parameter.kind == "flag" else parameter.label

    @property
    def needed(self) -> bool:
        """Whether there is something to choose."""
        return True


class _Plain(ParameterField):
    """Made by magicgui from the parameter's kind: a tick, a number, a dropdown, a text."""

    def __init__(self, parameter: Parameter) -> None:
        self._made = _magic_widget(parameter)
        super().__init__(parameter, self._made.native)
        self.show(parameter.default)
        self._made.changed.connect(lambda: self.changed.emit())

    @property
    def value(self) -> Any:
        value = self._made.value
        if self._is_none(value):
            return None
        return int(value) if self._parameter.kind == "whole" else value

    def _is_none(self, value: Any) -> bool:
        number = self._parameter.kind in ("whole", "number")
        return self._parameter.optional and (value == "" or (number and value == 0))

    def show(self, value: Any) -> None:
        if value is None:
            empty: Any = "" if self._parameter.kind == "text" else 0
            value = _FIRST.get(self.name, empty)
        self._made.value = value


class _Layer(ParameterField):
    def __init__(self, parameter: Parameter) -> None:
        tree = LayerTree()
        super().__init__(parameter, tree)
        tree.changed.connect(lambda: self.changed.emit())

    @property
    def value(self) -> Any:
        return self.widget.current

    def show(self, value: Any) -> None:
        if value is not None:
            self.widget.choose(value)


class ClassField(ParameterField):
    """A class of the network, or none."""

    def __init__(self, parameter: Parameter) -> None:
        self._box = QComboBox()
        self._box.setToolTip(parameter.tip)
        self._box.addItem(parameter.none, None)
        super().__init__(parameter, self._box)
        self._box.currentIndexChanged.connect(lambda: self.changed.emit())

    def show_classes(self, names: Sequence[str]) -> None:
        """Offer the classes of a network; the one that was chosen stays, if it is among them."""
        chosen = self.value
        with signals_blocked(self._box):
            while self._box.count() > 1:
                self._box.removeItem(1)
            for name in names:
                self._box.addItem(name, name)
        self.show(chosen)

    @property
    def needed(self) -> bool:
        return self._box.count() > 2

    @property
    def value(self) -> Any:
        return self._box.currentData()

    def show(self, value: Any) -> None:
        self._box.setCurrentIndex(max(self._box.findData(value), 0))


class _Baselines(ParameterField):
    def __init__(self, parameter: Parameter, viewer: Any) -> None:
        super().__init__(parameter, BaselinePicker(viewer))

    @property
    def value(self) -> Any:
        return self.widget.baselines()

    def show(self, value: Any) -> None:
        self.widget.show_baselines(value)


class _Weights(ParameterField):
    def __init__(self, parameter: Parameter) -> None:
        weights = LevelWeights()
        weights.setToolTip(f"After a run: {parameter.tip} Updated at once.")
        super().__init__(parameter, weights)
        self.label = ""
        weights.changed.connect(lambda: self.changed.emit())

    @property
    def needed(self) -> bool:
        return bool(self.widget.sliders)

    @property
    def value(self) -> Any:
        return self.widget.weights()


class _Shown(ParameterField):
    """Which of the last run's baselines is drawn; the form fills in their names."""

    def __init__(self, parameter: Parameter) -> None:
        box = QComboBox()
        box.setToolTip(
            "Shown at once: the mean over the baselines of the last run, one of them, or how "
            "much they disagree (largest minus smallest)."
        )
        super().__init__(parameter, box)
        box.currentIndexChanged.connect(lambda: self.changed.emit())

    @property
    def needed(self) -> bool:
        return self.widget.count() > 1

    @property
    def value(self) -> Any:
        return self.widget.currentData()


def field_of(parameter: Parameter, viewer: Any) -> ParameterField:
    """The field of a parameter; `viewer` has the layers that may be chosen."""
    if parameter.kind == "layer":
        return _Layer(parameter)
    if parameter.kind == "class":
        return ClassField(parameter)
    if parameter.kind == "baselines":
        return _Baselines(parameter, viewer)
    special = {"level_weights": _Weights, "shown": _Shown}.get(parameter.name, _Plain)
    return special(parameter)


def _magic_widget(parameter: Parameter) -> Any:
    tip = parameter.tip + (" Updated at once." if parameter.redraws else "")
    options: dict[str, Any] = {"tooltip": tip}
    if parameter.choices:
        options["choices"] = [(words, value) for value, words in parameter.choices.items()]
        return create_widget(annotation=Literal[tuple(parameter.choices)], options=options)
    if parameter.kind == "flag":
        options["text"] = parameter.label
        return create_widget(annotation=bool, options=options)
    if parameter.kind not in ("whole", "number"):
        return create_widget(annotation=str, options=options)
    whole = parameter.kind == "whole"
    low = 0 if parameter.low is None or parameter.optional else parameter.low
    high = _LARGEST.get(parameter.unit, 5_000) if parameter.high is None else parameter.high
    options |= {"min": low, "max": high, "step": 10 if parameter.unit == "s" else 1}
    made = create_widget(annotation=float, options=options)
    made.native.setSuffix(f" {parameter.unit}" if parameter.unit else "")
    made.native.setDecimals(0 if whole or parameter.unit in ("mm", "s") else 3)
    if parameter.optional and parameter.name not in _FIRST:
        made.native.setSpecialValueText(parameter.none)
    return made
