"""Runs in a row leave nothing behind: no tensors, no memory, no hooks, and the model as it was."""

import ctypes
import gc
import sys
import weakref

import numpy as np
import psutil
import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensor

from napari_cnnvis.explain.layers.layer_maps import LayerMaps
from napari_cnnvis.explain.methods.cam import cam
from napari_cnnvis.explain.methods.grad_cam import grad_cam
from napari_cnnvis.explain.methods.sensitivity import sensitivity
from napari_cnnvis.explain.registry import methods
from napari_cnnvis.explain.run import explain
from napari_cnnvis.explain.scoring.incremental.engine import IncrementalScorer
from napari_cnnvis.models.model import Model
from napari_cnnvis.scan.conform import InputSpec

METHODS = {key: method.title for key, method in methods().items()}

RUNS = 20
#: what resident memory may grow by in these runs: one feature map of the network for each
GROWTH = RUNS * 1_400_000


def live_tensors():
    """Shapes of all tensors with a memory; torch.export keeps one of those without from each run."""
    gc.collect()
    found = (o for o in gc.get_objects() if issubclass(type(o), torch.Tensor))
    return sorted(tuple(t.shape) for t in found if not isinstance(t, FakeTensor))


def resident_bytes():
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system
    return psutil.Process().memory_info().rss


@pytest.fixture
def scan(brain_of):
    return brain_of((28, 28, 28))


@pytest.fixture
def net(gap_net):
    """A network in training mode, as a notebook may hold it, with maps of 1.4 MB each."""
    torch.manual_seed(0)
    layers = [nn.Conv3d(1, 16, 3, padding=1), nn.BatchNorm3d(16), nn.ReLU(inplace=True)]
    net = gap_net([*layers, nn.Dropout3d(0.5), nn.Conv3d(16, 6, 3, stride=2), nn.ReLU()], 6).train()
    net[0].bias.requires_grad_(False)
    net[4].weight.grad = torch.ones_like(net[4].weight)
    net[2].register_forward_hook(lambda *_: None)
    return net


WHOLE, WINDOWED = [method for method in METHODS if method != "box"], ("cam", "layercam", "box")


@pytest.mark.parametrize(
    ("method", "window"),
    [
        *((method, None) for method in WHOLE),
        *(pytest.param(method, (20, 20, 20), marks=pytest.mark.slow) for method in WINDOWED),
    ],
)
def test_runs_leave_nothing_behind(fitting, net, scan, cubes, state_of, method, window):
    spec = InputSpec(window=window, overlap=0.3, intensity="none")
    model = Model(net, None, spec, "cpu")
    layer = None if method == "cam" else "all"
    request = fitting(method, 1, layer=layer, size=12, stride=10, baseline=0)
    hierarchy = cubes(scan, 14)
    before, weights = state_of(model.module), model.weights_hash()

    def run(times):
        for _ in range(times):
            found = explain(model, scan, request, hierarchy=hierarchy)
            found = found["0"] if isinstance(found, LayerMaps) else found
            assert np.isfinite(found.data).all()

    run(3)  # what is kept once, such as the list of layers
    tensors, memory = live_tensors(), resident_bytes()
    run(RUNS)
    assert live_tensors() == tensors
    assert resident_bytes() - memory < GROWTH
    assert state_of(model.module) == before
    assert model.weights_hash() == weights


def test_kept_outputs_go_with_the_run(conv_model, brain, cubes, monkeypatch):
    """At once, and not when the garbage is collected: on a GPU they are gigabytes."""
    scorers, start = [], IncrementalScorer.__init__

    def remember(self, *arguments):
        start(self, *arguments)
        scorers.append(weakref.ref(self))
        scorers.extend(map(weakref.ref, self.kept.values()))

    monkeypatch.setattr(IncrementalScorer, "__init__", remember)
    gc.disable()
    try:
        found = sensitivity(conv_model, brain, cubes(brain, 8), 0, engine="incremental")
        assert len(scorers) > 3
        assert not any(ref() for ref in scorers)
    finally:
        gc.enable()
    assert found.regions is not None


def test_a_model_that_is_dropped_is_freed(gap_net, brain, cubes):
    net = gap_net([nn.Conv3d(1, 4, 3), nn.ReLU()], 4)
    model = Model(net, None, InputSpec(intensity="none"), "cpu")
    found = [
        sensitivity(model, brain, cubes(brain, 8), 0, engine="incremental"),
        grad_cam(model, brain, 0, layer="all"),
        cam(model, brain, 0),
    ]
    weights = weakref.ref(net[0].weight)
    del model, net
    gc.collect()
    assert weights() is None
    assert len(found) == 3
