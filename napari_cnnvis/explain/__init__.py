"""Model + Volume (+ Hierarchy) -> Attribution."""

from napari_cnnvis.explain.attribution import Attribution, Progress
from napari_cnnvis.explain.cam import cam
from napari_cnnvis.explain.grad_cam import grad_cam
from napari_cnnvis.explain.layer_maps import LayerMaps
from napari_cnnvis.explain.region_scores import RegionScores
from napari_cnnvis.explain.sensitivity import sensitivity

__all__ = [
    "Attribution",
    "LayerMaps",
    "Progress",
    "RegionScores",
    "cam",
    "grad_cam",
    "sensitivity",
]
