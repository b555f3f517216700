"""Which supervoxels a sensitivity run takes: built from the scan, or those of a Labels layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QWidget

from napari_cnnvis._napari.layers.one_volume import shape_of
from napari_cnnvis._napari.layers.regions import fits_shape, hierarchy_maker
from napari_cnnvis._napari.widgets.layer_picker import LayerPicker
from napari_cnnvis.ucm.hierarchy import Hierarchy

__all__ = ["HierarchyPicker"]


class HierarchyPicker(LayerPicker):
    """Lists the Labels layers that have the shape of the chosen scan.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    scan : LayerPicker
        The scan that is to be explained.
    """

    def __init__(self, viewer: Any, scan: LayerPicker, parent: QWidget | None = None) -> None:
        def fits(layer: Any) -> bool:
            return scan.layer is not None and fits_shape(layer, shape_of(scan.layer))

        super().__init__(viewer, fits, "built from the scan", parent)
        scan.layer_changed.connect(self.refresh)
        self.setToolTip(
            "The regions that are occluded: supervoxels built from the scan, those of the panel "
            "Supervoxels with all their levels, or the regions of any Labels layer of the scan's "
            "shape, such as an atlas (0 is background)."
        )

    def maker(self) -> Callable[[], Hierarchy] | None:
        """What gives the chosen hierarchy, to be called in a worker; None for the scan's own."""
        return None if self.layer is None else hierarchy_maker(self.layer)
