"""The method and its parameters, as a form that makes an `ExplainRequest`."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QGroupBox,
    QLabel,
    QSizePolicy,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_cnnvis._napari.explain.hierarchy_picker import HierarchyPicker
from napari_cnnvis._napari.explain.parameter_fields import ClassField, ParameterField, field_of
from napari_cnnvis._napari.widgets.layer_picker import LayerPicker
from napari_cnnvis._napari.widgets.preferences import preference
from napari_cnnvis.explain.common_parameters import DISAGREEMENT
from napari_cnnvis.explain.method import Method
from napari_cnnvis.explain.parameter import Parameter
from napari_cnnvis.explain.registry import methods
from napari_cnnvis.explain.request import ExplainRequest

__all__ = ["MethodForm"]

#: parameters that say how a run is drawn, and are not asked for when it is run
_VIEWS = ("shown", "level_weights")


class MethodForm(QGroupBox):
    """Method, class, and the parameters of the method, a field for each; see `Method`.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    scan : LayerPicker
        The scan that is to be explained.
    """

    #: something was chosen that a kept run can show at once: layer, class, score, baseline ...
    view_changed = Signal()
    #: whether to hide what lies outside the head
    head_only_changed = Signal()

    def __init__(self, viewer: Any, scan: LayerPicker, parent: QWidget | None = None) -> None:
        super().__init__("Method", parent)
        self._shown: Any = None
        self._has_probabilities = True
        self._method = ""
        self._kept: dict[str, dict[str, Any]] = {}
        #: the fields, by name of the parameter and what it may be
        self._fields: dict[tuple[Any, ...], ParameterField] = {}
        self.method = QComboBox()
        for key, method in methods().items():
            self.method.addItem(method.title, key)
            self.method.setItemData(self.method.count() - 1, method.tip, Qt.ToolTipRole)
        self.choose_method(preference("method"))
        self.reason = QLabel()
        self.reason.setWordWrap(True)
        self.target = QComboBox()
        self.target.setToolTip("The class that the map explains.")
        self.hierarchy = HierarchyPicker(viewer, scan)
        self.head_only = QCheckBox("Hide what is outside the head")
        self.head_only.setChecked(bool(preference("hide_outside")))
        self.head_only.setToolTip(
            "Only for display; the status line says how much of the map is outside."
        )
        self.form = QFormLayout(self)
        self.form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self.form.addRow("Method", self.method)
        self.form.addRow(self.reason)
        self.form.addRow("Class", self.target)
        self._add_fields(viewer)
        self.form.addRow("", self.head_only)
        for box in self.findChildren(QComboBox):  # as wide as the panel, not as the longest entry
            box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            box.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
            box.setMinimumContentsLength(8)
        self.method.currentIndexChanged.connect(self._on_method)
        self.target.currentIndexChanged.connect(lambda: self.view_changed.emit())
        self.head_only.toggled.connect(lambda: self.head_only_changed.emit())
        self._on_method()

    def _add_fields(self, viewer: Any) -> None:
        for parameter in _in_order():
            field = field_of(parameter, viewer)
            self._fields[_mark(parameter)] = field
            self.form.addRow(field.label, field.widget)
            if parameter.redraws:
                field.changed.connect(lambda: self.view_changed.emit())
            if parameter.kind == "baselines":
                self.form.addRow("Supervoxels", self.hierarchy)

    def _field(self, parameter: Parameter) -> ParameterField:
        return self._fields[_mark(parameter)]

    def field(self, name: str) -> Any:
        """The widget of a parameter of the chosen method, or of the first one that has it."""
        kinds = [self._kind, *methods().values()]
        found = next(kind.parameters()[name] for kind in kinds if name in kind.parameters())
        return self._field(found).widget

    @property
    def _kind(self) -> type[Method]:
        return methods()[self.method.currentData()]

    @property
    def layer(self) -> Any:
        """The tree of target layers."""
        return self.field("layer")

    # --- what the network has ------------------------------------------------------

    def show_model(self, model: Any, shape: tuple[int, ...] | None) -> None:
        """List the classes and target layers of a model for a scan of `shape`."""
        layers = model.layers(shape)
        if self._shown is layers:
            return
        first_time = self._shown is None or self._names() != list(model.class_names)
        self._shown = layers
        self._has_probabilities = model.outputs.has_probabilities
        if first_time:
            self.target.clear()
            self.target.addItems(model.class_names)
            for field in self._fields.values():
                if isinstance(field, ClassField):
                    field.show_classes(model.class_names)
        self.layer.show_layers(layers.targets, layers.recommended)
        self._enable_methods(layers)
        self._show_rows()

    def _names(self) -> list[str]:
        return [self.target.itemText(i) for i in range(self.target.count())]

    def _enable_methods(self, layers: Any) -> None:
        """Grey those that do not apply to the network, with the reason."""
        reasons = []
        for index, (key, method) in enumerate(methods().items()):
            why_not = method.why_not(layers)
            item = self.method.model().item(index)
            item.setEnabled(not why_not)
            item.setToolTip(why_not or method.tip)
            if why_not:
                reasons.append(f"{method.title}: {why_not}")
                if self.method.currentData() == key:
                    self.choose_method("grad-cam")
        self.reason.setText("\n".join(reasons))
        self.reason.setVisible(bool(reasons))

    def choose_method(self, method: str) -> None:
        """Select a method."""
        self.method.setCurrentIndex(self.method.findData(method))

    def choose_class(self, index: int) -> None:
        """Select a class."""
        self.target.setCurrentIndex(index)

    # --- what is asked for ---------------------------------------------------------

    def request(self) -> ExplainRequest:
        """What to run, as the form stands."""
        values = {name: value for name, value in self._values().items() if name not in _VIEWS}
        return ExplainRequest(self._kind.key, self.target.currentIndex(), **values)

    def view_request(self) -> ExplainRequest:
        """What to run and how to draw it: one baseline's map, weights of the levels."""
        return ExplainRequest(self._kind.key, self.target.currentIndex(), **self._values())

    def _values(self) -> dict[str, Any]:
        """By name, of the chosen method."""
        parameters = self._kind.parameters()
        return {n: self._field(p).value for n, p in parameters.items() if p.in_form}

    def show_baselines(self, names: tuple[str, ...]) -> None:
        """Offer the maps of the baselines of a run, if there are several."""
        box = self.field("shown")
        with signals_blocked(box):
            box.clear()
            box.addItem("mean of the baselines", None)
            if len(names) > 1:
                for name in names:
                    box.addItem(name, name)
                box.addItem("how much they disagree", DISAGREEMENT)
        self._show_rows()

    def show_levels(self, counts: tuple[int, ...]) -> None:
        """Offer weights for the levels of a run, if it had several."""
        self.field("level_weights").show_levels(counts if len(counts) > 1 else ())
        self._show_rows()

    def show_request(self, request: ExplainRequest, names: tuple[str, ...]) -> None:
        """Fill in a request; `names` are the model's targets."""
        self.choose_method(request.method)
        if isinstance(request.target, str):
            if request.target in names:
                self.choose_class(names.index(request.target))
        else:
            self.choose_class(request.target)
        self._fill_in(request.how)

    def _fill_in(self, how: Method) -> None:
        for name, parameter in how.parameters().items():
            if parameter.in_form and name not in _VIEWS:
                field = self._field(parameter)
                with signals_blocked(field):
                    field.show(getattr(how, name))

    def _on_method(self) -> None:
        """Each method comes back with the values that it had, at first with its defaults."""
        if self._method:
            own = methods()[self._method].parameters()
            self._kept[self._method] = {
                n: self._field(p).value for n, p in own.items() if p.in_form and not _shared(p)
            }
        self._method = self.method.currentData()
        kept = self._kept.get(self._method)
        for name, parameter in self._kind.parameters().items():
            if parameter.in_form and not _shared(parameter):
                field = self._field(parameter)
                with signals_blocked(field):
                    field.show(parameter.default if kept is None else kept[name])
        self.method.setToolTip(self._kind.tip)
        self._show_rows()
        self.view_changed.emit()

    def _show_rows(self) -> None:
        parameters = self._kind.parameters().values()
        wanted = [self._field(p).widget for p in parameters if p.in_form]
        for field in self._fields.values():
            shown = field.widget in wanted and field.needed
            if field.name == "score":
                shown = shown and self._has_probabilities
            self.form.setRowVisible(field.widget, shown)
        self.form.setRowVisible(self.hierarchy, self._kind.takes_hierarchy)


def _mark(parameter: Parameter) -> tuple[Any, ...]:
    """What two parameters have in common that share a field."""
    return parameter.name, parameter.kind, tuple(parameter.choices or ())


def _in_order() -> list[Parameter]:
    """The parameters that have fields, so that those of each method are in its own order."""
    found: list[Parameter] = []
    for method in methods().values():
        place = 0
        for parameter in method.parameters().values():
            marks = [_mark(one) for one in found]
            if _mark(parameter) in marks:
                place = marks.index(_mark(parameter)) + 1
            elif parameter.in_form:
                found.insert(place, parameter)
                place += 1
    return found


def _shared(parameter: Parameter) -> bool:
    """Whether the methods share a field's value: what belongs to the network or the last run."""
    return parameter.kind in ("layer", "baselines") or parameter.name in _VIEWS
