"""Occluded volumes of any kind, and what full passes make of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.scoring.incremental.classify import classify
from napari_cnnvis.explain.scoring.incremental.engine import IncrementalScorer
from napari_cnnvis.explain.scoring.incremental.trace import trace
from napari_cnnvis.models.execution import inspecting
from napari_cnnvis.models.scores import Part, Reading, choose_part, parts_of_output

KINDS = ("voxel", "corner", "box", "scattered", "whole")
#: of logits, relative to the largest if that is above 1; they are returned in float32
TOLERANCE = {torch.float32: 1e-5, torch.float64: 2e-7}


class Masks:
    """Occlusions given as masks of the volume, each with a value for each of its voxels."""

    def __init__(self, masks, fills):
        self._voxels = [np.flatnonzero(mask) for mask in masks]
        self._fills = [np.asarray(fill, np.float32) for fill in fills]
        self.boxes = np.array(
            [[(axis.min(), axis.max() + 1) for axis in np.nonzero(mask)] for mask in masks]
        )

    def __len__(self):
        return len(self._voxels)

    def voxels(self, index):
        return self._voxels[index]

    def values(self, index):
        return self._fills[index]


class Calls(nn.Module):
    """A function of the input and of other modules, as a network."""

    def __init__(self, function, *parts):
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(parts)

    def forward(self, x):
        return self.function(x, *self.parts)


def _mask(rng, kind, shape):
    mask = np.zeros(shape, bool)
    low = rng.integers(0, shape)
    high = np.minimum(low + rng.integers(1, 5, 3), shape)
    if kind == "voxel":
        high = low + 1
    elif kind == "corner":
        at_end = rng.random(3) < 0.5
        size = rng.integers(1, 4, 3)
        low = np.where(at_end, np.maximum(np.array(shape) - size, 0), 0)
        high = np.where(at_end, shape, size)
    elif kind == "whole":
        low, high = np.zeros(3, int), np.array(shape)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    if kind == "scattered":
        mask |= rng.random(shape) < 0.01
        mask &= rng.random(shape) < 0.7
        mask[tuple(low)] = True
    return mask


def _occlusions(shape, kinds=KINDS, seed=0):
    rng = np.random.default_rng(seed)
    masks = [_mask(rng, kind, shape) for kind in kinds]
    return Masks(masks, [rng.normal(0, 2, mask.sum()) for mask in masks])


def _boxes(shape, boxes, value=2.0):
    masks = np.zeros((len(boxes), *shape), bool)
    for mask, (low, high) in zip(masks, boxes, strict=True):
        mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return Masks(masks, [np.full(mask.sum(), value) for mask in masks])


def _clean(shape, seed=0, dtype=torch.float32):
    return torch.from_numpy(np.random.default_rng(seed).random((1, 1, *shape), np.float32)).to(
        dtype
    )


def _lively(module, seed=0):
    """Random weights and statistics that neither fade nor grow from layer to layer."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv3d | nn.Linear):
                scale = (2 / part.weight[0].numel()) ** 0.5
                part.weight.normal_(0, scale, generator=generator)
                if part.bias is not None:
                    part.bias.normal_(0, 0.3, generator=generator)
            elif isinstance(part, nn.BatchNorm3d):
                part.running_mean.normal_(0, 0.3, generator=generator)
                part.running_var.uniform_(0.5, 2, generator=generator)
                if part.affine:
                    part.weight.uniform_(0.5, 1.5, generator=generator)
                    part.bias.normal_(0, 0.3, generator=generator)
    return module.eval()


def _full_passes(module, clean, occlusions):
    rows = []
    for index in range(len(occlusions)):
        x = clean.clone(memory_format=torch.contiguous_format)
        x.view(-1)[occlusions.voxels(index)] = torch.from_numpy(occlusions.values(index)).to(x)
        with torch.no_grad():
            rows.append(module(x)[0].double().numpy())
    return np.stack(rows)


def _in_order(scorer, occlusions):
    members, scores = zip(*scorer.score(occlusions), strict=True)
    members = np.concatenate(members)
    np.testing.assert_array_equal(np.sort(members), np.arange(len(occlusions)))
    return np.concatenate(scores)[np.argsort(members)]


def reading_of(module, x):
    """How a network is run to its scores; of one that has none, as if it gave two."""
    try:
        with inspecting(module), torch.no_grad():
            given = list(parts_of_output(module(x.clone())))
        return Reading(choose_part([Part(name, tuple(t.shape)) for name, t in given], None))
    except (MethodError, RuntimeError):
        return Reading(Part("", (1, 2)))


def _program(module, shape, dtype=torch.float32):
    x = torch.zeros(1, 1, *shape, dtype=dtype)
    return classify(trace(module, x, reading_of(module, x)))


def _check(net, shape, kinds=KINDS, seed=0, dtype=torch.float32):
    net = _lively(net.to(dtype), seed)
    clean, occlusions = _clean(shape, seed, dtype), _occlusions(shape, kinds, seed)
    scorer = IncrementalScorer(_program(net, shape, dtype), clean)
    expected = _full_passes(net, clean, occlusions)
    tolerance = TOLERANCE[dtype] * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(_in_order(scorer, occlusions), expected, rtol=0, atol=tolerance)
    with torch.no_grad():
        logits = net(clean)[0].numpy()
    np.testing.assert_allclose(scorer.clean_logits, logits, rtol=0, atol=tolerance)
    return np.abs(expected - logits).max()


@pytest.fixture(scope="session")
def occlusions_in():
    """shape, kinds of regions, seed -> random occlusions."""
    return _occlusions


@pytest.fixture(scope="session")
def boxes_in():
    """shape, [(low, high), ...], value -> boxes filled with one value."""
    return _boxes


@pytest.fixture(scope="session")
def masks():
    """masks, values of their voxels -> occlusions."""
    return Masks


@pytest.fixture(scope="session")
def clean_of():
    """shape, seed, type -> a random clean volume (1, 1, i, j, k)."""
    return _clean


@pytest.fixture(scope="session")
def lively():
    return _lively


@pytest.fixture(scope="session")
def calls():
    return Calls


@pytest.fixture(scope="session")
def program_of():
    """module, shape, type -> its operations."""
    return _program


@pytest.fixture(scope="session")
def full_passes():
    """module, clean, occlusions -> logits of one full pass for each."""
    return _full_passes


@pytest.fixture(scope="session")
def in_order():
    """scorer, occlusions -> logits row by row, each index having come exactly once."""
    return _in_order


@pytest.fixture(scope="session")
def check_exact():
    """Checks that random regions are scored as by full passes; gives the largest change of a logit.

    net, shape, kinds of regions, seed, type
    """
    return _check
