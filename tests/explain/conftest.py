"""Tiny networks and volumes whose explanations are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from napari_cnnvis.models.model import Model
from napari_cnnvis.models.networks.vox import VoxResNetGAP
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.volume import Volume
from napari_cnnvis.ucm.hierarchy import Hierarchy


def _wrap(module, shape=None, class_names=None):
    return Model(module, class_names, InputSpec(shape=shape, intensity="none"), "cpu")


def _linear(weights, bias=None, shape=None):
    weights = np.asarray(weights, np.float32)
    n_classes, *own_shape = weights.shape
    layer = nn.Linear(weights[0].size, n_classes)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights.reshape(n_classes, -1)))
        layer.bias.copy_(torch.as_tensor([0.0] * n_classes if bias is None else bias))
    return _wrap(nn.Sequential(nn.Flatten(), layer), shape or tuple(own_shape))


def _gap(features, channels, n_classes=2):
    layers = [nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(channels, n_classes)]
    return nn.Sequential(*features, *layers)


def _delta(size, stride=1):
    """A convolution without padding that picks the middle voxel of its kernel."""
    conv = nn.Conv3d(1, 1, size, stride=stride, bias=False)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[0, 0, size // 2, size // 2, size // 2] = 1
    return conv


def _volume(shape, seed=0):
    data = np.random.default_rng(seed).random(shape, dtype=np.float32)
    return Volume(data, np.diag([2.0, 2.0, 2.0, 1.0]), "random")


def _conv_net():
    """Two convolutions with small receptive fields, undecided about the brain."""
    generator = torch.Generator().manual_seed(2)
    layers = [nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU()]
    net = _gap([*layers, nn.Conv3d(4, 6, 3, stride=2), nn.ReLU()], 6)
    net.eval()
    with torch.no_grad():
        for weights in net.parameters():
            weights.normal_(0, 1, generator=generator)
        net[-1].bias -= net(torch.from_numpy(_brain().data[None, None]))[0]
    return net


def _brain(shape=(14, 15, 13), seed=0):
    middle = (np.array(shape) - 1) / 2
    grid = np.indices(shape) - middle[:, None, None, None]
    head = ((grid / (middle[:, None, None, None] - 1)) ** 2).sum(0) < 1
    data = np.where(head, np.random.default_rng(seed).uniform(0.5, 1, shape), 0)
    return Volume(data, np.diag([2.0, 2.0, 2.0, 1.0]), "brain")


def _cubes(volume, *widths):
    """Cubes inside the head as levels; each width a multiple of the one before."""
    places = [np.indices(volume.shape) // width for width in widths]
    labels = [np.ravel_multi_index(place, volume.shape) for place in places]
    return Hierarchy.from_levels([np.where(volume.data > 0, x, -1) for x in labels], background=-1)


def _state(module):
    """Everything about a network that an explanation has to leave alone."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "modules": {
            name: (
                m.training,
                getattr(m, "inplace", None),
                *(list(getattr(m, hook)) for hook in hooks),
            )
            for name, m in module.named_modules()
        },
        "parameters": {
            name: (p.requires_grad, None if p.grad is None else p.grad.tolist())
            for name, p in module.named_parameters()
        },
        "weights": {name: t.tolist() for name, t in module.state_dict().items()},
    }


@pytest.fixture(scope="session")
def wrap():
    """A module as a Model that takes volumes as they are."""
    return _wrap


@pytest.fixture(scope="session")
def linear_model():
    """weights (n_classes, i, j, k) -> Model whose logits are w . x + bias."""
    return _linear


@pytest.fixture(scope="session")
def gap_net():
    """layers, channels -> a network that ends in global average pooling and a linear layer."""
    return _gap


@pytest.fixture(scope="session")
def delta():
    return _delta


@pytest.fixture(scope="session")
def volume_of():
    return _volume


@pytest.fixture(scope="session")
def conv_model():
    """A network of which little has to be computed for a small region; any shape."""
    return _wrap(_conv_net())


@pytest.fixture(scope="session")
def brain_of():
    """shape, seed -> a head of random intensities on an empty background."""
    return _brain


@pytest.fixture(scope="session")
def brain():
    return _brain()


@pytest.fixture(scope="session")
def cubes():
    """volume, widths -> the hierarchy of cubes of these widths inside its head."""
    return _cubes


@pytest.fixture(scope="session")
def state_of():
    return _state


@pytest.fixture
def cam_model():
    """VoxResNetGAP with random weights and BatchNorm statistics."""
    torch.manual_seed(0)
    net = VoxResNetGAP()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.bias, 0, 0.1)
    return _wrap(net.eval(), class_names=("patient", "control"))


@pytest.fixture
def busy_net():
    """A network in training mode with all that running it could change."""
    torch.manual_seed(1)
    layers = [
        nn.Conv3d(1, 4, 3),
        nn.BatchNorm3d(4),
        nn.ReLU(inplace=True),
        nn.Dropout3d(0.5),
        nn.Conv3d(4, 6, 3),
        nn.ReLU(),
    ]
    net = _gap(layers, 6).train()
    net[1].eval()
    net[0].bias.requires_grad_(False)
    net[4].weight.grad = torch.ones_like(net[4].weight)
    net[2].register_forward_hook(lambda *_: None)
    return net
