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
    QSpinBox,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_cnnvis._napari.explain.baseline_picker import BaselinePicker
from napari_cnnvis._napari.explain.hierarchy_picker import HierarchyPicker
from napari_cnnvis._napari.explain.layer_tree import LayerTree
from napari_cnnvis._napari.explain.level_weights import LevelWeights
from napari_cnnvis._napari.widgets.layer_picker import LayerPicker
from napari_cnnvis._napari.widgets.preferences import preference
from napari_cnnvis.explain.request import (
    ALIGNMENTS,
    DISAGREEMENT,
    GRADIENT,
    JOINS,
    METHODS,
    OCCLUDING,
    QUANTITIES,
    SCORES,
    ExplainRequest,
)
from napari_cnnvis.ucm.options import FINEST

__all__ = ["MethodForm"]

_DEFAULTS = {method: ExplainRequest(method, 0) for method in METHODS}
_QUANTITY_NAMES = {
    "drop": "drop",
    "absolute": "size of the drop",
    "probability": "what remains",
}
_SCORE_NAMES = {"logit": "logit", "log_prob": "log-probability", "probability": "probability"}
_TIPS = {
    "cam": "Class activation map: the last layer's maps, weighted by the class's linear weights. "
    "Exact for nets with global average pooling.",
    "grad-cam": "A layer's maps, weighted by the mean gradient of the score. One pass, any layer; "
    "as coarse as the layer.",
    "grad-cam++": "As Grad-CAM, but places whose gradient is positive count for more; better where an "
    "object occurs several times.",
    "hirescam": "As Grad-CAM, but without averaging the gradient over the layer: shows only what the "
    "layer's cells really add to the score.",
    "layercam": "Each cell is weighted by its own positive gradient; made for early, fine layers.",
    "sensitivity": "How far the score drops when a supervoxel is replaced by the baseline. Only what "
    "a region can change is computed, where the network allows it; what the map says depends on the "
    "baseline.",
    "box": "How far the score drops when a cube around each voxel is replaced by the baseline; slower "
    "than supervoxels, and blind to what is larger than the cube.",
}


class MethodForm(QGroupBox):
    """Method, class, target layer and parameters; shows only what the method has.

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
        self.method = QComboBox()
        for method, name in METHODS.items():
            self.method.addItem(name, method)
            self.method.setItemData(self.method.count() - 1, _TIPS[method], Qt.ToolTipRole)
        self.choose_method(preference("method"))
        self.reason = QLabel()
        self.reason.setWordWrap(True)
        self.target = QComboBox()
        self.target.setToolTip("The class that the map explains.")
        self.layer = LayerTree()
        self.relu = QCheckBox("Only what supports the class")
        self.relu.setToolTip("ReLU, as in the Grad-CAM paper. Off keeps the sign.")
        self.score = _choices(SCORES, _SCORE_NAMES)
        self.score.setToolTip("The number that is explained.")
        self.alignment = _choices(ALIGNMENTS)
        self.alignment.setToolTip(
            "Where a layer's cells are put: spread evenly over the input, as other tools do, or "
            "where their receptive fields are centred. Differs for nets without padding."
        )
        self.baseline = BaselinePicker(viewer)
        self.quantity = _choices(QUANTITIES, _QUANTITY_NAMES)
        self.quantity.setToolTip(
            "How far the score drops (positive supports the class); how far it moves either way, "
            "which finds what matters; or the score that remains, as the reference maps it."
        )
        self.hierarchy = HierarchyPicker(viewer, scan)
        self.regions = QSpinBox()
        self.regions.setRange(2, 5000)
        self.regions.setValue(FINEST)
        self.regions.setToolTip(
            "Number of regions on the finest level; more is slower and finer. A hierarchy of few "
            "levels, such as an atlas, is used as it is."
        )
        self.join = _choices(tuple(JOINS), JOINS)
        self.join.setToolTip("How the values of a voxel's regions on the levels are joined.")
        self.weights = LevelWeights()
        self.weights.setToolTip(
            "After a run: how much each level counts, from its finest with most regions on the left. "
            "Updated at once."
        )
        self.margin = QSpinBox()
        self.margin.setRange(0, 50)
        self.margin.setSuffix(" mm")
        self.margin.setToolTip(
            "How far a region grows, within the head, before it is occluded, so that its outline "
            "does not stay visible. 0 is the published method; 6 mm found simulated atrophy better."
        )
        self.smooth = QSpinBox()
        self.smooth.setRange(0, 50)
        self.smooth.setSuffix(" mm")
        self.smooth.setToolTip(
            "Smooths the map with a Gaussian (full width at half maximum). 0 is the published method; 12 mm "
            "found simulated atrophy far better. Updated at once."
        )
        self.size = QSpinBox()
        self.size.setRange(1, 99)
        self.size.setSuffix(" voxels")
        self.size.setToolTip("Side of the cube, on the network's grid.")
        self.stride = QSpinBox()
        self.stride.setRange(1, 99)
        self.stride.setSuffix(" voxels")
        self.stride.setToolTip("Distance between cubes; 1 takes 8 times as long as 2.")
        self.map_of = QComboBox()
        self.map_of.setToolTip(
            "Shown at once: the mean over the baselines of the last run, one of them, or how far "
            "they disagree (largest minus smallest)."
        )
        self.time_limit = QSpinBox()
        self.time_limit.setRange(0, 100_000)
        self.time_limit.setSingleStep(10)
        self.time_limit.setSuffix(" s")
        self.time_limit.setSpecialValueText("none")
        self.time_limit.setToolTip(
            "Stop after this time with the map so far; large regions, and boxes far apart, come first."
        )
        self.half = QCheckBox("Half precision")
        self.half.setToolTip(
            "Score regions in float16 (bfloat16 on a CPU). The difference from full precision is "
            "measured on four regions and shown."
        )
        self.head_only = QCheckBox("Hide what is outside the head")
        self.head_only.setChecked(bool(preference("hide_outside")))
        self.head_only.setToolTip(
            "Only for display; the status line says how much of the map is outside."
        )
        self._rows = {
            "cam": [self.alignment],
            **{m: [self.layer, self.relu, self.score, self.alignment] for m in GRADIENT},
            "sensitivity": [
                *(
                    self.baseline,
                    self.hierarchy,
                    self.regions,
                    self.margin,
                    self.quantity,
                    self.score,
                ),
                *(self.join, self.weights, self.smooth, self.map_of, self.time_limit, self.half),
            ],
            "box": [
                *(self.baseline, self.size, self.stride, self.quantity, self.score),
                *(self.smooth, self.map_of, self.time_limit, self.half),
            ],
        }
        self.form = QFormLayout(self)
        self.form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        for label, widget in [
            ("Method", self.method),
            (None, self.reason),
            ("Class", self.target),
            ("Layer", self.layer),
            ("", self.relu),
            ("Score", self.score),
            ("Cells", self.alignment),
            ("Baselines", self.baseline),
            ("Supervoxels", self.hierarchy),
            ("Regions", self.regions),
            ("Margin", self.margin),
            ("Box side", self.size),
            ("Stride", self.stride),
            ("Shows", self.quantity),
            ("Levels", self.join),
            ("", self.weights),
            ("Smooth", self.smooth),
            ("Map of", self.map_of),
            ("Time limit", self.time_limit),
            ("", self.half),
            ("", self.head_only),
        ]:
            if label is None:
                self.form.addRow(widget)
            else:
                self.form.addRow(label, widget)
        for box in self.findChildren(QComboBox):  # as wide as the panel, not as the longest entry
            box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            box.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
            box.setMinimumContentsLength(8)
        self._own = tuple(self._values_of(_DEFAULTS[self.method.currentData()]))
        self._kept: dict[str, dict[QWidget, Any]] = {}
        self._method = ""
        self.method.currentIndexChanged.connect(self._on_method)
        self.layer.changed.connect(lambda: self.view_changed.emit())
        self.relu.clicked.connect(lambda: self.view_changed.emit())
        views = (self.alignment, self.target, self.score, self.quantity, self.join, self.map_of)
        for box in views:
            box.currentIndexChanged.connect(lambda: self.view_changed.emit())
        self.smooth.valueChanged.connect(lambda: self.view_changed.emit())
        self.weights.changed.connect(lambda: self.view_changed.emit())
        self.head_only.toggled.connect(lambda: self.head_only_changed.emit())
        self._on_method()

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
        self.layer.show_layers(layers.targets, layers.recommended)
        self._enable_cam(layers.no_cam_reason)
        self._show_rows()

    def _names(self) -> list[str]:
        return [self.target.itemText(i) for i in range(self.target.count())]

    def _enable_cam(self, no_cam_reason: str) -> None:
        index = self.method.findData("cam")
        item = self.method.model().item(index)
        item.setEnabled(not no_cam_reason)
        item.setToolTip(no_cam_reason or _TIPS["cam"])
        self.reason.setText(f"CAM: {no_cam_reason}" if no_cam_reason else "")
        self.reason.setVisible(bool(no_cam_reason))
        if no_cam_reason and self.method.currentData() == "cam":
            self.method.setCurrentIndex(self.method.findData("grad-cam"))

    def choose_method(self, method: str) -> None:
        """Select a method."""
        self.method.setCurrentIndex(self.method.findData(method))

    def choose_class(self, index: int) -> None:
        """Select a class."""
        self.target.setCurrentIndex(index)

    # --- what is asked for ---------------------------------------------------------

    def request(self) -> ExplainRequest:
        """What to run, as the form stands."""
        return ExplainRequest(
            method=self.method.currentData(),
            target=self.target.currentIndex(),
            layer=self.layer.current,
            relu=self.relu.isChecked(),
            score=self.score.currentData(),
            alignment=self.alignment.currentData(),
            baseline=self.baseline.baselines()
            if self.method.currentData() in OCCLUDING
            else "blur",
            quantity=self.quantity.currentData(),
            finest=self.regions.value(),
            join=self.join.currentData(),
            margin=float(self.margin.value()),
            smooth=float(self.smooth.value()),
            size=self.size.value(),
            stride=self.stride.value(),
            time_budget=self.time_limit.value() or None,
            precision="half" if self.half.isChecked() else "single",
        )

    @property
    def shown_baseline(self) -> str | None:
        """Which of the run's baselines is to be shown; None for their mean."""
        return self.map_of.currentData()

    def show_baselines(self, names: tuple[str, ...]) -> None:
        """Offer the maps of the baselines of a run, if there are several."""
        with signals_blocked(self.map_of):
            self.map_of.clear()
            self.map_of.addItem("mean of the baselines", None)
            if len(names) > 1:
                for name in names:
                    self.map_of.addItem(name, name)
                self.map_of.addItem("how far they disagree", DISAGREEMENT)
        self._show_rows()

    def show_levels(self, counts: tuple[int, ...]) -> None:
        """Offer weights for the levels of a run, if it had several."""
        self.weights.show_levels(counts if len(counts) > 1 else ())
        self._show_rows()

    def show_request(self, request: ExplainRequest, names: tuple[str, ...]) -> None:
        """Fill in a request; `names` are the model's targets."""
        self.choose_method(request.method)
        if isinstance(request.target, str):
            if request.target in names:
                self.choose_class(names.index(request.target))
        else:
            self.choose_class(request.target)
        if request.layer is not None:
            self.layer.choose(request.layer)
        for widget, value in self._values_of(request).items():
            _set_value(widget, value)
        if request.method in OCCLUDING:
            self.baseline.show_baselines(request.baseline)

    def _on_method(self) -> None:
        """Each method comes back with the values that it had, at first with its defaults."""
        if self._method:
            self._kept[self._method] = {w: _value(w) for w in self._own}
        self._method = self.method.currentData()
        defaults = self._values_of(_DEFAULTS[self._method])
        for widget, value in self._kept.get(self._method, defaults).items():
            _set_value(widget, value)
        self.method.setToolTip(_TIPS[self._method])
        self._show_rows()
        self.view_changed.emit()

    def _values_of(self, request: ExplainRequest) -> dict[QWidget, Any]:
        """What the widgets say of a request."""
        return {
            **{self.relu: request.relu, self.score: request.score},
            **{self.alignment: request.alignment, self.quantity: request.quantity},
            **{self.join: request.join, self.regions: request.finest or FINEST},
            **{self.margin: round(request.margin), self.smooth: round(request.smooth)},
            **{self.size: request.size, self.stride: request.stride},
            **{self.time_limit: round(request.time_budget or 0)},
            **{self.half: request.precision == "half"},
        }

    def _show_rows(self) -> None:
        wanted = self._rows[self.method.currentData()]
        for widget in {w for rows in self._rows.values() for w in rows}:
            shown = widget in wanted
            if widget is self.map_of:
                shown = shown and self.map_of.count() > 1
            if widget is self.weights:
                shown = shown and bool(self.weights.sliders)
            if widget is self.score:
                shown = shown and self._has_probabilities
            self.form.setRowVisible(widget, shown)


def _value(widget: QWidget) -> Any:
    """What a box, a field of a number or a tick says."""
    if isinstance(widget, QComboBox):
        return widget.currentData()
    return widget.isChecked() if isinstance(widget, QCheckBox) else widget.value()


def _set_value(widget: QWidget, value: Any) -> None:
    if isinstance(widget, QComboBox):
        widget.setCurrentIndex(widget.findData(value))
    elif isinstance(widget, QCheckBox):
        widget.setChecked(value)
    else:
        widget.setValue(value)


def _choices(values: tuple[str, ...], names: dict[str, str] | None = None) -> QComboBox:
    box = QComboBox()
    for value in values:
        box.addItem((names or {}).get(value, value), value)
    return box
