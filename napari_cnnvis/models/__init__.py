"""Checkpoint file -> Model: architectures, file formats, what layers a network has."""

from napari_cnnvis.models.checkpoint import load_model, save_model
from napari_cnnvis.models.layers import CamHead, LayerGrid, NetworkLayers, TargetLayer
from napari_cnnvis.models.model import Model
from napari_cnnvis.models.networks import VoxResNet, VoxResNetGAP, VoxVGG

__all__ = [
    "CamHead",
    "LayerGrid",
    "Model",
    "NetworkLayers",
    "TargetLayer",
    "VoxResNet",
    "VoxResNetGAP",
    "VoxVGG",
    "load_model",
    "save_model",
]
