"""Volume -> Hierarchy: boundary strength, supervoxels, merge tree."""

from napari_cnnvis.ucm.build import build_hierarchy
from napari_cnnvis.ucm.hierarchy import Hierarchy

__all__ = ["Hierarchy", "build_hierarchy"]
