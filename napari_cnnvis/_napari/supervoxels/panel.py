"""The panel "Supervoxels": build or open a hierarchy, cut it, look into it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_cnnvis._napari.layers.one_volume import shape_of
from napari_cnnvis._napari.layers.region_facts import RegionFacts
from napari_cnnvis._napari.layers.regions import fits_shape, hierarchy_maker
from napari_cnnvis._napari.layers.scans import layer_to_volume
from napari_cnnvis._napari.supervoxels.chain_table import ChainTable
from napari_cnnvis._napari.supervoxels.hierarchy_files import (
    read_hierarchy,
    stored_orientation,
    write_hierarchy,
)
from napari_cnnvis._napari.supervoxels.region_slider import RegionSlider
from napari_cnnvis._napari.supervoxels.region_view import RegionView
from napari_cnnvis._napari.widgets.file_dialogs import FileDialogs
from napari_cnnvis._napari.widgets.guide_window import add_help
from napari_cnnvis._napari.widgets.jobs import JobRunner
from napari_cnnvis._napari.widgets.layer_picker import LayerPicker
from napari_cnnvis._napari.widgets.panel_base import DockedPanel, row
from napari_cnnvis._napari.widgets.voxel_clicks import VoxelClicks
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.progress import Progress
from napari_cnnvis.scan.volume import Volume
from napari_cnnvis.ucm.hierarchy import Hierarchy
from napari_cnnvis.ucm.options import FINEST

__all__ = ["SupervoxelPanel"]

_NO_HIERARCHY = "Press Build, or open supervoxels or an atlas."
_NO_CHAIN = "Click on the scan: the regions that contain this voxel are listed here."
_READABLE = "Hierarchies and label volumes (*.npz *.npy *.nii *.nii.gz *.mgz);;All files (*)"
_WRITABLE = "Hierarchy (*.npz);;Levels as label volumes (*.nii.gz);;Levels as array (*.npy)"
_NOTHING = np.empty(0, dtype=np.int64)
_BOUNDARIES = {
    "gradient": "Gradient: how fast the intensity changes; about a second.",
    "gpb": "gPb: local and global (spectral) evidence of boundaries, as in the papers; up to about "
    "half a minute.",
}


class SupervoxelPanel(DockedPanel):
    """Builds hierarchies of supervoxels and shows their cuts on the scan.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer, lines=2, width=395)
        self._viewer = napari_viewer
        self._dialogs = FileDialogs(self, "supervoxels folder")
        self.jobs = JobRunner(self)
        self.view = RegionView(napari_viewer, self)
        self._build_widgets()
        add_help(self, "supervoxels")
        self._connect()
        self._refresh()

    def _build_widgets(self) -> None:
        self.scan = LayerPicker(self._viewer)
        self.scan.setToolTip("The image layer that is cut into regions.")
        self.scan.setMinimumWidth(90)
        self.boundary = QComboBox()
        for name, tip in _BOUNDARIES.items():
            self.boundary.addItem(name, name)
            self.boundary.setItemData(self.boundary.count() - 1, tip, Qt.ToolTipRole)
        self.boundary.setToolTip("How boundaries are found. " + " ".join(_BOUNDARIES.values()))
        self.build_button = QPushButton("Build")
        self.build_button.setToolTip("Cut the scan into thousands of regions and merge them.")
        self.open_button = _menu_button("Open", "A saved hierarchy, label volumes or an atlas.")
        self.open_button.menu().addAction("File…", self._ask_files)
        self.open_button.menu().addAction("Folder of PPM slices…", self._ask_folder)
        self.from_layer = _menu_button(
            "From Labels layer", "Use the regions of a Labels layer that has the scan's shape."
        )
        self.save_button = QPushButton("Save…")
        self.save_button.setToolTip("The hierarchy as .npz, or its levels as label volumes.")

        source = QGroupBox("Hierarchy")
        form = QFormLayout(source)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Scan", self.scan)
        form.addRow("Boundaries", _row(self.boundary, self.build_button))
        form.addRow(_row(self.open_button, self.from_layer, self.save_button, stretch=0))

        self.said = QLabel()
        self.said.setWordWrap(True)
        self.said.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.slider = RegionSlider()
        self.slider.setToolTip("Number of regions; drag to merge and split them.")
        self.only_selected = QCheckBox("Only the selected")
        self.only_selected.setToolTip("Hide all regions but the one that is selected.")
        self.contours = QCheckBox("Contours")
        self.contours.setToolTip(
            "The ultrametric contour map: the higher two regions merge, the brighter their boundary."
        )
        self.hint = QLabel(_NO_CHAIN)
        self.hint.setWordWrap(True)
        self.chain = ChainTable()
        regions = QGroupBox("Regions")
        column = QVBoxLayout(regions)
        column.addWidget(self.said)
        column.addWidget(self.slider)
        column.addWidget(_row(self.only_selected, self.contours))
        column.addWidget(self.hint)
        column.addWidget(self.chain, 1)

        content = QWidget()
        column = QVBoxLayout(content)
        column.addWidget(source)
        column.addWidget(regions, 1)
        self.lay_out(content, row(self.bar, self.cancel_button), self.status)

    def _connect(self) -> None:
        self._clicks = VoxelClicks(self._viewer, self._on_click)
        self.scan.layer_changed.connect(self._refresh)
        self.build_button.clicked.connect(lambda: self.build())
        self.cancel_button.clicked.connect(self.jobs.cancel)
        self.save_button.clicked.connect(lambda: self._ask_target())
        self.from_layer.menu().aboutToShow.connect(self._list_labels)
        self.slider.changed.connect(self._on_slider)
        self.chain.chosen.connect(self.show_region)
        self.only_selected.toggled.connect(self.view.show_only_selected)
        self.view.only_selected_changed.connect(self.only_selected.setChecked)
        self.view.drops_changed.connect(self._on_drops)
        self.contours.toggled.connect(self._on_contours)
        self.view.contours_removed.connect(lambda: self.contours.setChecked(False))
        self.follow(self.jobs)
        self.jobs.started.connect(self._refresh)
        self.jobs.finished.connect(self._refresh)

    def docked(self) -> None:
        """Listen to clicks while the panel is in a window."""
        self._clicks.start()

    def closed(self) -> None:
        """Leave the viewer alone."""
        self._clicks.stop()
        self.jobs.cancel()

    # --- where a hierarchy comes from ----------------------------------------------

    @property
    def hierarchy(self) -> Hierarchy | None:
        """The hierarchy that is shown."""
        return None if self.view.facts is None else self.view.facts.hierarchy

    def build(self) -> None:
        """Build the hierarchy of the scan in the background and show it."""
        boundary = self.boundary.currentData()

        def make(volume: Volume, stored: str, progress: Any, cancel: Any) -> Hierarchy:
            from napari_cnnvis.ucm.build import build_hierarchy

            return build_hierarchy(volume, boundary=boundary, cancel=cancel, progress=progress)

        self._start("Building supervoxels", make)

    def open(self, paths: list[str]) -> None:
        """Open a saved hierarchy, label volumes or one folder of PPM slices."""
        name = Path(paths[0]).name
        self._start(f"Opening {name}", lambda scan, stored, *_: read_hierarchy(paths, scan, stored))

    def take(self, layer: Any) -> None:
        """Show the hierarchy of a Labels layer; a plain one is a hierarchy of one level."""
        make = hierarchy_maker(layer)
        self._start(f"Reading {layer.name}", lambda *_: make())

    def _start(self, what: str, make: Callable[..., Hierarchy]) -> None:
        """Make a hierarchy in the background: ``make(scan, stored, progress, cancel)``."""
        layer = self.scan.layer
        if layer is None or self.jobs.busy:
            return
        scan = self.session.heads.snapshot(layer)

        def job(progress: Any, cancel: Any) -> RegionFacts:
            volume = layer_to_volume(*scan)
            stored = stored_orientation(volume)
            return RegionFacts.of(make(volume, stored, progress, cancel), volume)

        def done(facts: RegionFacts) -> None:
            self.status.setText("")
            self.hint.setText(_NO_CHAIN)
            self.contours.setChecked(False)
            self.slider.offer(np.unique(facts.count))
            self.slider.show_value(FINEST)
            self.view.show(facts, layer, self.slider.value)
            self.chain.show_chain(_NOTHING, facts, None)

        self.jobs.start(what, job, done)

    def save(self, path: str) -> None:
        """Save the hierarchy (``.npz``) or its levels, in place of a file that is there."""
        hierarchy, place = self.hierarchy, self.view.place
        self.jobs.start(
            f"Saving {Path(path).name}",
            lambda progress, cancel: write_hierarchy(hierarchy, path, place),
            lambda written: self.status.setText(f"Saved {written.name}."),
        )

    def _ask_files(self) -> None:
        paths = self._dialogs.open_files("Open supervoxels", _READABLE)
        if paths:
            self.open(paths)

    def _ask_folder(self) -> None:
        path = self._dialogs.open_folder("Open PPM slices")
        if path:
            self.open([path])

    def _ask_target(self) -> None:
        try:
            path = self._dialogs.save_file("Save supervoxels", _WRITABLE)
        except CnnVisError as exc:
            self.warn(str(exc))
            return
        if path:
            self.save(path)

    def _list_labels(self) -> None:
        menu = self.from_layer.menu()
        menu.clear()
        for layer in self._viewer.layers:
            if self.scan.layer is not None and fits_shape(layer, shape_of(self.scan.layer)):
                menu.addAction(layer.name, lambda layer=layer: self.take(layer))
        if menu.isEmpty():
            menu.addAction("There is no Labels layer of the scan's shape.").setEnabled(False)

    # --- cutting and looking -------------------------------------------------------

    def _on_slider(self, count: int) -> None:
        self.view.cut(count)
        node = self.view.region_in_cut(self.chain.nodes)
        self.view.select(node)
        self.chain.mark(node)

    def show_region(self, node: int) -> None:
        """Cut where a region first exists, and show it alone."""
        self.slider.show_value(int(self.view.facts.count[node]))
        self.view.cut(self.slider.value)
        self.view.select(node)
        self.view.show_only_selected(True)

    def _on_click(self, event: Any) -> None:
        """List the regions that hold the voxel that was clicked on."""
        voxel = self.view.voxel_at(event)
        if voxel is None:
            return
        self.chain.show_chain(self.hierarchy.chain(voxel), self.view.facts, self.view.drops)
        node = self.view.region_in_cut(self.chain.nodes)
        self.view.select(node)
        self.chain.mark(node)
        self.only_selected.setEnabled(True)
        self.hint.setText("Regions at voxel {}, {}, {}, fine to coarse:".format(*voxel))

    def _on_drops(self) -> None:
        """A sensitivity map of this hierarchy came, changed or went."""
        self.chain.show_chain(self.chain.nodes, self.view.facts, self.view.drops)
        self.chain.mark(self.view.region_in_cut(self.chain.nodes))

    def _on_contours(self, wanted: bool) -> None:
        if not wanted:
            self.view.show_contours(None)
        elif not self.jobs.busy:
            hierarchy = self.hierarchy

            def done(contours: np.ndarray) -> None:
                self.status.setText("")
                self.view.show_contours(contours)

            self.jobs.start(
                "Drawing contours",
                lambda progress, cancel: hierarchy.contour_map(),
                done,
            )

    # --- what is shown -------------------------------------------------------------

    def progress_text(self, progress: Progress, left: str) -> str:
        """The step, without counts: they are of no meaning here."""
        what = progress.what[0].upper() + progress.what[1:]
        return ", ".join(filter(None, [what, left])) + " …"

    def _refresh(self) -> None:
        """Bring every widget in line with the scan, the hierarchy and the running job."""
        idle = not self.jobs.busy
        shown = self.hierarchy is not None
        for widget in (self.build_button, self.open_button, self.from_layer):
            widget.setEnabled(idle and self.scan.layer is not None)
        self.save_button.setEnabled(idle and shown)
        self.scan.setEnabled(idle)
        self.bar.setVisible(not idle)
        self.cancel_button.setVisible(not idle)
        self.contours.setEnabled(idle and shown)
        self.only_selected.setEnabled(len(self.chain.nodes) > 0)
        for widget in (self.slider, self.only_selected, self.contours, self.hint, self.chain):
            widget.setVisible(shown)
        self.said.setText(self._said())

    def _said(self) -> str:
        if self.hierarchy is None:
            return self.scan.hint or _NO_HIERARCHY
        kind = "regions on one level" if len(self.slider.box.counts) == 1 else "supervoxels"
        return f"{self.hierarchy.n_leaves:,} {kind} of {self.view.name}"


def _row(*widgets: QWidget, stretch: int = 1) -> QWidget:
    box = QWidget()
    row = QHBoxLayout(box)
    row.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        row.addWidget(widget, stretch)
    return box


def _menu_button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setMenu(QMenu(button))
    return button
