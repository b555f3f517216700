"""What the user has to say about a checkpoint that does not say it itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_cnnvis._napari.network.input_form import InputForm
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.models.further_inputs import parsed_extra, written_extra
from napari_cnnvis.models.output_kinds import OUTPUT_KINDS
from napari_cnnvis.models.settings import Recipe

__all__ = ["ModelSettings"]

_KINDS = {"": "as found", **OUTPUT_KINDS}


class ModelSettings(QFrame):
    """Architecture, trust, classes and input; emits ``applied()`` when they are to be used.

    ``input_changed()`` tells of each edit of the input, ``preview_toggled(bool)``
    whether the network's input is to be shown as a layer.
    """

    applied = Signal()
    input_changed = Signal()
    preview_toggled = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._typed = False
        self.arch = QLineEdit()
        self.arch.setPlaceholderText("recognised from the file")
        self.arch.setToolTip(
            "The network that the weights belong to: module:callable(arguments), such as\n"
            "monai.networks.nets:resnet18(spatial_dims=3, n_input_channels=1, num_classes=2),\n"
            "or a file of yours: /path/my_nets.py:MyNet(width=16)"
        )
        self.more_files = QLineEdit()
        self.more_files.setPlaceholderText("none")
        self.more_files.setToolTip(
            "Other files with weights of the same network, such as its head, separated by semicolons;\n"
            "or choose or drop all of them at once."
        )
        self.trust = QCheckBox("Let Python code from files run")
        self.trust.setToolTip(
            "Pickled networks and .py files are programs: they can do whatever you can do on this "
            "computer.\nTick this only for files whose author you trust. It is never remembered."
        )
        self.kind = QComboBox()
        for key, text in _KINDS.items():
            self.kind.addItem(text, key)
        self.kind.setToolTip("What the network's outputs mean.")
        self.classes = QLineEdit()
        self.classes.setToolTip(
            "A name for each output, separated by commas; remembered for this file."
        )
        self.scores = QLineEdit()
        self.scores.setPlaceholderText("found by name, or as the only ones")
        self.scores.setToolTip(
            "Of a network that gives several outputs: which are the scores of the classes, such as "
            "logits, or 0 or 1 in a tuple."
        )
        self.extra = QLineEdit()
        self.extra.setPlaceholderText("none")
        self.extra.setToolTip(
            "What the network takes besides the scan, such as age=71, sex=1; the same in every pass. "
            "For scans of a table, columns of these names count instead."
        )
        self.input = InputForm()
        self.preview = QCheckBox("Show model input")
        self.preview.setToolTip(
            "Adds what the network sees as a layer, and keeps it up to date while you edit."
        )
        self.apply = QPushButton("Apply")
        self.apply.setToolTip("Load the checkpoint with these settings; remembered for this file.")
        self.fix = QPushButton()
        self.fix.hide()
        self._fits: tuple[int, int, int] | None = None
        self.problem = QLabel()
        self.problem.setWordWrap(True)
        self.problem.hide()
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Architecture", self.arch)
        form.addRow("Further files", self.more_files)
        form.addRow("", self.trust)
        form.addRow("Outputs are", self.kind)
        form.addRow("Classes", self.classes)
        form.addRow("Scores", self.scores)
        form.addRow("More inputs", self.extra)
        buttons = QHBoxLayout()
        buttons.addWidget(self.preview)
        buttons.addStretch()
        buttons.addWidget(self.apply)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 4)
        column.addLayout(form)
        column.addWidget(self.input)
        column.addWidget(self.problem)
        column.addWidget(self.fix)
        column.addLayout(buttons)
        for box in self.findChildren(QComboBox):
            box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            box.setMinimumContentsLength(8)
        self.arch.textEdited.connect(lambda: self._set_typed(True))
        self.arch.returnPressed.connect(self._apply)
        for line in (self.more_files, self.classes, self.scores, self.extra):
            line.returnPressed.connect(self._apply)
        self.apply.clicked.connect(self._apply)
        self.fix.clicked.connect(self._use_fitting)
        self.input.changed.connect(self._on_input)
        self.preview.toggled.connect(self.preview_toggled)

    def show_model(self, recipe: Recipe, model: Any) -> None:
        """Fill the form with what is known of a loaded model."""
        self.suggest(recipe.arch or model.arch)
        self.kind.setCurrentIndex(self.kind.findData(recipe.output))
        names = recipe.class_names or model.class_names
        self.classes.setText(", ".join(names))
        self._show_said(model, Path(model.path))
        self.input.show_spec(model.input_spec)
        self.offer(None)

    def show_tried(self, recipe: Recipe, path: Path) -> None:
        """Fill the form with how the checkpoint at `path` was taken, that could not be loaded so."""
        if recipe.arch:
            self.suggest(recipe.arch)
        self._show_said(recipe, path)
        self.kind.setCurrentIndex(self.kind.findData(recipe.output))
        self.classes.setText(", ".join(recipe.class_names))
        if recipe.input_spec is not None:
            self.input.show_spec(recipe.input_spec)

    def _show_said(self, said: Any, path: Path) -> None:
        """What a recipe and a model have alike; files beside the checkpoint by their names alone."""
        more = [Path(file) for file in said.more_files]
        self.more_files.setText(
            "; ".join(file.name if file.parent == path.parent else str(file) for file in more)
        )
        self.scores.setText(said.scores)
        self.extra.setText(written_extra(said.extra))

    def suggest(self, arch: str) -> None:
        """Fill in an architecture; it counts as the user's own only once he edits it."""
        if arch == self.arch.text():
            return
        self.arch.setText(arch)
        self.arch.setCursorPosition(0)
        self._set_typed(False)

    def _set_typed(self, typed: bool) -> None:
        self._typed = typed

    def show_unknown(self) -> None:
        """Empty the form for another file."""
        self.suggest("")
        for line in (self.more_files, self.classes, self.scores, self.extra):
            line.clear()
        self.trust.setChecked(False)
        self.kind.setCurrentIndex(0)
        self.offer(None)

    def recipe(self, channels: int | None) -> Recipe:
        """What the form says; `channels` of the model that is loaded, None if none is.

        Raises
        ------
        VolumeError
            If the input is not described rightly.
        MethodError
            If the further inputs are not.
        """
        names = tuple(n for part in self.classes.text().split(",") if (n := part.strip()))
        return Recipe(
            arch=self.arch.text().strip(),
            arch_by_user=self._typed,
            class_names=names,
            output=self.kind.currentData(),
            input_spec=None if channels is None else self.input.spec(),
            scores=self.scores.text().strip(),
            extra=parsed_extra(self.extra.text()),
            more_files=tuple(
                f for part in self.more_files.text().split(";") if (f := part.strip())
            ),
        )

    def offer(self, fits: tuple[int, int, int] | None) -> None:
        """Offer a shape that the network can take as a button, or no longer."""
        self._fits = fits
        self.fix.setVisible(fits is not None)
        if fits is not None:
            self.fix.setText(f"Use {' × '.join(map(str, fits))} voxels")

    def _use_fitting(self) -> None:
        self.input.size.setCurrentIndex(self.input.size.findData("crop"))
        self.input.shape.set(self._fits)
        self._apply()

    def _apply(self) -> None:
        if self._check():
            self.offer(None)
            self.applied.emit()

    def _on_input(self) -> None:
        if self._check():
            self.input_changed.emit()

    def _check(self) -> bool:
        try:
            self.input.spec()
            parsed_extra(self.extra.text())
        except CnnVisError as exc:
            self.problem.setText(f"⚠ {exc}")
            self.problem.show()
            return False
        self.problem.hide()
        return True
