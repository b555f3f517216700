"""How a head mask looks on its scan: a see-through colour, in slices and in 3D."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.utils.colormaps import DirectLabelColormap

from napari_cnnvis._napari.layers.scans import spatial_state

__all__ = ["head_arguments"]

_CLEAR, _COLOUR = (0.0, 0.0, 0.0, 0.0), (0.1, 0.85, 0.9, 1.0)


def head_arguments(mask: np.ndarray, scan: Any) -> dict[str, Any]:
    """Keyword arguments of the Labels layer that shows the head of a scan layer, exactly on it."""
    return {
        **spatial_state(scan),
        "data": mask.astype(np.uint8),
        "name": f"Head of {scan.name}",
        "colormap": DirectLabelColormap(color_dict={None: _CLEAR, 0: _CLEAR, 1: _COLOUR}),
        "opacity": 0.3,
        "rendering": "translucent",
        "blending": "translucent_no_depth",
    }
