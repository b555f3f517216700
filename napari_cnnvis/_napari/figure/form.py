"""The widgets of the panel "Figure", and the `FigureSpec` that they say."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QGridLayout,
    QGroupBox,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_cnnvis._napari.figure.cutaway import CutAway
from napari_cnnvis._napari.figure.size import SizeRow
from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis._napari.widgets.layer_picker import LayerPicker
from napari_cnnvis._napari.widgets.panel_base import DockedPanel, row
from napari_cnnvis.figure.geometry import VIEWS
from napari_cnnvis.figure.spec import AXES, BACKGROUNDS, SIDES, FigureSpec

__all__ = ["FigureForm"]

_PLACES = ("the map's peak", "the viewer's position")


class FigureForm:
    """Builds the widgets into a panel and reads them.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    panel : DockedPanel
    """

    def __init__(self, viewer: Any, panel: DockedPanel) -> None:
        self.scan = LayerPicker(viewer)
        self.map = LayerPicker(viewer, map_of)
        for picker in (self.scan, self.map):
            picker.setMinimumWidth(90)
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self.status, self.bar, self.cancel = panel.status, panel.bar, panel.cancel_button
        self.cancel.setText("Stop")

        content = QWidget()
        column = QVBoxLayout(content)
        form = QFormLayout()
        form.addRow("Scan", self.scan)
        form.addRow("Map", self.map)
        column.addLayout(form)
        column.addWidget(self.hint)
        column.addWidget(self._three_d(viewer))
        column.addWidget(self._picture())
        column.addWidget(self._saving())
        column.addStretch()
        panel.lay_out(content, row(self.bar, self.cancel), self.status)

    def _three_d(self, viewer: Any) -> QGroupBox:
        box = QGroupBox("3D view")
        column = QVBoxLayout(box)
        grid = QGridLayout()
        self.presets = {}
        for number, name in enumerate(VIEWS):
            button = self.presets[name] = QPushButton(name.capitalize())
            button.setToolTip(f"Look at the patient from the {name} side.")
            grid.addWidget(button, number // 2 % 3, number % 2)
        column.addLayout(grid)
        self.save_view = QPushButton("Save view")
        self.save_view.setToolTip("Keep this view to come back to.")
        self.go_to_saved = QPushButton("Go to saved")
        column.addLayout(row(self.save_view, self.go_to_saved))
        self.cut_away = CutAway(viewer)
        column.addWidget(self.cut_away)
        self.whole = QPushButton("Cut nothing away")
        column.addWidget(self.whole)
        return box

    def _picture(self) -> QGroupBox:
        box = QGroupBox("Picture")
        form = QFormLayout(box)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self.title = QLineEdit()
        self.title.setPlaceholderText("method · class · layer")
        self.title.setToolTip("Empty: method, class and layer of the map. A space: no title.")
        self.size = SizeRow()
        self.background = _choice(BACKGROUNDS)
        self.side = _choice(SIDES)
        self.side.setToolTip(
            "Radiological: the patient's left is on the right of slices. Neurological: on the left."
        )
        self.place = _choice(_PLACES)
        self.axis = _choice(AXES)
        self.count = QSpinBox()
        self.count.setRange(1, 200)
        self.count.setValue(20)
        self.count.setToolTip("Number of slices.")
        self.colour_bar, self.scale_bar, self.letters, self.smooth = (
            QCheckBox(text) for text in ("Colour bar", "Scale bar", "Letters", "Smooth")
        )
        self.smooth.setToolTip("Interpolate between voxels of slices, lightbox and six views.")
        for tick in (self.colour_bar, self.scale_bar, self.letters, self.smooth):
            tick.setChecked(True)
        form.addRow("Title", self.title)
        form.addRow("Size", self.size)
        form.addRow("Background", self.background)
        form.addRow("Side", self.side)
        form.addRow("Slices at", self.place)
        form.addRow("Lightbox", row(self.axis, self.count))
        ticks = QGridLayout()
        for number, tick in enumerate((self.colour_bar, self.scale_bar, self.letters, self.smooth)):
            ticks.addWidget(tick, number // 2, number % 2)
        form.addRow("Show", ticks)
        return box

    def _saving(self) -> QGroupBox:
        box = QGroupBox("Save")
        grid = QGridLayout(box)
        self.buttons = {}
        for number, (name, text) in enumerate(
            {
                "view": "3D view…",
                "views": "Six views…",
                "slices": "Slices…",
                "lightbox": "Lightbox…",
                "turntable": "Turntable…",
                "open": "Open JSON…",
            }.items()
        ):
            self.buttons[name] = QPushButton(text)
            grid.addWidget(self.buttons[name], number // 2, number % 2)
        self.buttons["open"].setToolTip("The settings, or the 3D view, of a saved picture.")
        return box

    @property
    def at_peak(self) -> bool:
        """Whether slices go through the map's peak, not the viewer's position."""
        return self.place.currentText() == _PLACES[0]

    def spec(self, layout: str) -> FigureSpec:
        """What the widgets say.

        Raises
        ------
        CnnVisError
            If a value is not possible.
        """
        title = self.title.text()
        return FigureSpec(
            layout=layout,
            axis=self.axis.currentText(),
            count=self.count.value(),
            width_mm=self.size.width_mm.value(),
            dpi=self.size.dpi,
            background=self.background.currentText(),
            title=None if title == "" else title.strip(),
            colour_bar=self.colour_bar.isChecked(),
            scale_bar=self.scale_bar.isChecked(),
            letters=self.letters.isChecked(),
            side=self.side.currentText(),
            smooth=self.smooth.isChecked(),
        )

    def show_spec(self, spec: FigureSpec) -> None:
        """Set the widgets to what a spec says."""
        self.axis.setCurrentText(spec.axis)
        self.count.setValue(spec.count)
        self.size.show_size(spec.width_mm, spec.dpi)
        self.background.setCurrentText(spec.background)
        self.title.setText("" if spec.title is None else spec.title or " ")
        self.colour_bar.setChecked(spec.colour_bar)
        self.scale_bar.setChecked(spec.scale_bar)
        self.letters.setChecked(spec.letters)
        self.side.setCurrentText(spec.side)
        self.smooth.setChecked(spec.smooth)


def _choice(values: tuple[str, ...]) -> QComboBox:
    box = QComboBox()
    box.addItems(values)
    return box
