"""One voxel: what the maps say there, its chain of regions, and what its cell sees."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtWidgets import QCheckBox, QGroupBox, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_cnnvis._napari.inspect.cells import CellGrid, Field, why_no_cells
from napari_cnnvis._napari.inspect.chain import ChainBox, chain_at
from napari_cnnvis._napari.inspect.marks import Marks
from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis._napari.layers.place import millimetres_of, place_text
from napari_cnnvis._napari.widgets.plain_table import PlainTable

__all__ = ["VoxelBox", "values_at"]

_HINT = "Click on the scan, or jump to a peak."
_NO_FIELD = "What a cell of this layer sees is not known."


def values_at(viewer: Any, layer: Any, voxel: tuple[int, ...]) -> list[tuple[str, float]]:
    """Names and values of the visible maps where a voxel of `layer` is, the topmost first.

    They are the maps' own values: what a threshold or clusters hide counts as well.
    """
    world = layer.data_to_world(voxel)
    found = []
    for other in reversed(viewer.layers):
        map_ = map_of(other)
        if map_ is None or not (other.visible or other is layer):
            continue
        index = tuple(np.round(other.world_to_data(world)).astype(int))
        if all(0 <= i < n for i, n in zip(index, map_.values.shape, strict=True)):
            found.append((other.name, float(map_.values[index])))
    return found


class VoxelBox(QGroupBox):
    """Tables, a plot and marks of the voxel that is looked at."""

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__("Voxel", parent)
        self._viewer = viewer
        self._view: Any = None
        #: the voxel of the map that is looked at
        self.voxel: tuple[int, ...] | None = None
        self.marks = Marks(viewer)
        self.place = QLabel(_HINT)
        self.values = PlainTable(("Map", "Value"), rows=3)
        self.field = QCheckBox("Receptive field")
        self.field.setChecked(True)
        self.field_said = QLabel()
        self.field_said.setWordWrap(True)
        self.chain_said = QLabel()
        self.chain_said.setWordWrap(True)
        self.chain = ChainBox()
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        column = QVBoxLayout(self)
        for widget in (
            *(self.place, self.values, self.field, self.field_said),
            *(self.chain_said, self.chain),
        ):
            column.addWidget(widget)
        self.field.toggled.connect(self._show_field)
        self._forget()

    def look_at(self, view: Any) -> None:
        """Look at voxels of this `MapView`'s map; None for no map."""
        voxel = self.voxel
        again = (
            voxel is not None
            and view is not None
            and self._view is not None
            and view.layer.data.shape == self._view.layer.data.shape
            and np.allclose(view.layer.data_to_world(voxel), self._view.layer.data_to_world(voxel))
        )
        self._view = view
        if again:
            self.show_voxel(voxel)
        else:
            self.clear()

    def show_voxel(self, voxel: tuple[int, ...]) -> None:
        """Look at a voxel of the map."""
        self.voxel = voxel
        self.refresh()
        self.marks.show(self._view.layer, voxel, self._field() if self._wanted else None)

    def refresh(self) -> None:
        """Show again what is known of the voxel."""
        if self._view is None or self.voxel is None:
            self._forget()
            return
        layer = self._view.layer
        self.place.setText(
            f"{place_text(layer, millimetres_of(layer, self.voxel))}   "
            "(voxel {}, {}, {})".format(*self.voxel)
        )
        values = values_at(self._viewer, layer, self.voxel)
        self.values.show_rows([(name, f"{value:.4g}") for name, value in values])
        self.values.setVisible(True)
        self._say_field()
        chain = chain_at(layer, self.voxel)
        self.chain.show_chain(chain)
        self.chain_said.setVisible(chain is not None)
        if chain is not None:
            self.chain_said.setText(
                f"Regions that contain the voxel and were scored for {chain.class_name} "
                f"({len(chain.nodes)} of {chain.n_all}):"
                if chain.n_all
                else "No region contains this voxel."
            )

    def redraw(self, event: Any = None) -> None:
        """Other axes are on the screen."""
        self.marks.redraw()

    def clear(self) -> None:
        """Look at no voxel, and take the marks away."""
        self.marks.clear()
        self._forget()

    def _forget(self) -> None:
        self.voxel = None
        self.place.setText(_HINT)
        for widget in (self.values, self.field_said, self.chain_said, self.chain):
            widget.setVisible(False)
        self._offer_field()

    def _offer_field(self) -> None:
        """Let the box be asked for where it is known, and say why where it is not."""
        known = getattr(getattr(self._grid, "fields", None), "size", None) is not None
        self.field.setEnabled(known)
        tip = "The box of voxels that the clicked cell of the target layer sees."
        if not known and self._view is not None:
            has_cells = self._view.cells is not None
            tip = _NO_FIELD if has_cells else why_no_cells(self._view.layer)
        self.field.setToolTip(tip)

    @property
    def _grid(self) -> CellGrid | None:
        cells = None if self._view is None else self._view.cells
        return None if cells is None else cells.grid

    @property
    def _wanted(self) -> bool:
        return self.field.isChecked() and self.field.isEnabled()

    def _field(self) -> Field | None:
        grid = self._grid
        cell = None if grid is None or self.voxel is None else grid.cell_at(self.voxel)
        return None if cell is None else grid.field_of(cell)

    def _show_field(self) -> None:
        if self.voxel is not None:
            self.marks.show_field(self._field() if self._wanted else None)

    def _say_field(self) -> None:
        self._offer_field()
        field = self._field()
        self.field_said.setVisible(field is not None)
        if field is None:
            return
        map_ = map_of(self._view.layer)
        name = (map_ and map_.provenance.get("layer")) or "the layer"
        sides = " × ".join(f"{mm:.0f}" for mm in field.size_mm)
        voxels = " × ".join(f"{n:.0f}" for n in field.size)
        outside = (field.low < 0).any() or (field.high >= self._view.layer.data.shape).any()
        more = "; it reaches beyond the scan" if outside else ""
        self.field_said.setText(
            f"A cell of {name} sees {sides} mm ({voxels} voxels of the network's input){more}."
        )
