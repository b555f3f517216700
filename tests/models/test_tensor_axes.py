"""Channels and cells are found wherever a network puts them: last, in tokens, windows or slices."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import napari_cnnvis as cv
from napari_cnnvis.errors import MethodError
from napari_cnnvis.models.layers import find_layers

SHAPE = (8, 12, 4)


class Moves(nn.Module):
    """Applies operations one after the other, and gives what comes out to a layer called `end`."""

    def __init__(self, *operations):
        super().__init__()
        self.operations, self.end, self.out = operations, nn.Identity(), nn.Linear(1, 2)

    def forward(self, x):
        for operation in self.operations:
            x = operation(x)
        x = self.end(x)
        return self.out(x.mean(tuple(range(1, x.ndim)), keepdim=True).reshape(-1, 1)[:1])


def coded(channels=3, shape=SHAPE):
    """Each value says which channel and voxel it is of."""
    return torch.arange(1.0, channels * np.prod(shape) + 1).reshape(1, channels, *shape)


def layer_and_map(net, x, name="end"):
    found = find_layers(net, tuple(x.shape[1:]))
    layers = {**{t.name: t for t in found.targets}, **found.others}
    kept = []
    handle = net.get_submodule(name).register_forward_hook(lambda *a: kept.append(a[-1]))
    with torch.no_grad():
        net.eval()(x)
    handle.remove()
    return layers.get(name), kept[0]


def windows(x, n=4):
    """Window partition of a channels-last tensor, as Swin transformers do it."""
    b, d, h, w, c = x.shape
    x = x.view(b, d // n, n, h // n, n, w // n, n, c)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).contiguous().view(-1, n**3, c)


def with_class_token(x):
    return torch.cat([torch.zeros(x.shape[0], 1, x.shape[2], device=x.device), x], 1)


VIEWS = {
    "channels last": [lambda x: x.permute(0, 2, 3, 4, 1)],
    "channels last and first again": [lambda x: x.movedim(1, -1), lambda x: x.movedim(-1, 1)],
    "tokens": [lambda x: x.flatten(2).transpose(1, 2)],
    "tokens, channels first": [lambda x: x.flatten(2)],
    "tokens after a class token": [lambda x: x.flatten(2).mT, with_class_token],
    "tokens before registers": [lambda x: x.flatten(2).mT, lambda x: F.pad(x, (0, 0, 0, 4))],
    "a class token dropped": [lambda x: x.flatten(2).mT, with_class_token, lambda x: x[:, 1:]],
    "heads": [lambda x: x.flatten(2).mT, lambda x: x.reshape(1, -1, 3, 1).transpose(1, 2)],
    "windows": [lambda x: x.permute(0, 2, 3, 4, 1), windows],
    "shifted windows": [
        lambda x: x.permute(0, 2, 3, 4, 1),
        lambda x: x.roll((-2, -2, -2), (1, 2, 3)),
        lambda x: x.roll((2, 2, 2), (1, 2, 3)),
    ],
    "rolled": [lambda x: x.roll((-3, 1), (2, 4))],
    "reversed": [lambda x: x.flip(3)],
    "rolled and reversed": [lambda x: x.roll(2, 3), lambda x: x.flip(3), lambda x: x.roll(3, 3)],
    "other order of axes": [lambda x: x.permute(0, 1, 4, 2, 3)],
    "slices as a batch": [lambda x: x.transpose(1, 2).flatten(0, 1)],
    "slices along the last axis": [lambda x: x.permute(0, 4, 1, 2, 3).reshape(4, 3, 8, 12)],
    "padded and cut": [lambda x: F.pad(x, (1, 1, 2, 0, 0, 3)), lambda x: x[:, :, :8, 2:, 1:5]],
    "split and joined": [lambda x: torch.cat(x.split(1, 1)[::-1], 1)],
    "one channel after the other": [lambda x: torch.stack(x.unbind(1), 1)],
}


@pytest.mark.parametrize("view", VIEWS)
def test_whatever_moves_cells_about_is_undone(view):
    x = coded()
    layer, output = layer_and_map(Moves(*VIEWS[view]), x)
    assert layer is not None
    assert (layer.channels, layer.shape) == (3, SHAPE)
    found = layer.map_of(output)
    if view == "split and joined":
        found = found.flip(1)
    torch.testing.assert_close(found, x)
    assert (layer.grid.start, layer.grid.step) == ((0.0,) * 3, (1.0,) * 3)


def dims_of(x):
    return st.permutations(range(1, x.ndim))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_views_are_undone(data):
    """Permutations, flattenings, splittings, rolls and flips in any order, as long as all is kept."""
    steps, x = [], coded(2, (4, 6, 2))

    def add(operation):
        nonlocal x
        steps.append(operation)
        x = operation(x)

    for _ in range(data.draw(st.integers(1, 6))):
        kind = data.draw(st.sampled_from(["permute", "flatten", "split", "roll", "flip"]))
        if kind == "permute":
            order = (0, *data.draw(dims_of(x)))
            add(lambda x, order=order: x.permute(order))
        elif kind == "flatten" and x.ndim > 3:
            dim = data.draw(st.integers(1, x.ndim - 2))
            add(lambda x, dim=dim: x.flatten(dim, dim + 1))
        elif kind == "split" and x.ndim < 7:
            dim = data.draw(st.integers(1, x.ndim - 1))
            n = data.draw(st.sampled_from([d for d in (1, 2, 3) if x.shape[dim] % d == 0]))
            add(lambda x, dim=dim, n=n: x.unflatten(dim, (-1, n)))
        else:
            dim, shift = data.draw(st.integers(1, x.ndim - 1)), data.draw(st.integers(-2, 2))
            if kind == "roll":
                add(lambda x, dim=dim, shift=shift: x.roll(shift, dim))
            else:
                add(lambda x, dim=dim: x.flip(dim))
    layer, output = layer_and_map(Moves(*steps), coded(2, (4, 6, 2)))
    if layer is None:  # said to be no map: never a wrong one
        return
    found, true = layer.map_of(output)[0], coded(2, (4, 6, 2))[0]
    assert layer.shape == (4, 6, 2)
    assert {tuple(c.flatten().tolist()) for c in found} == {
        tuple(c.flatten().tolist()) for c in true
    }


NO_MAPS = {
    "flattened": [lambda x: x.flatten(1)],
    "entries in another order": [lambda x: x[:, :, torch.tensor([3, 1, 0, 2, 7, 6, 5, 4])]],
    "sorted": [lambda x: x.sort(2).values],
    "cells mixed up with channels": [lambda x: x.reshape(1, 4, 9, 8, 4)],
    "attention": [lambda x: x.flatten(2).mT, lambda x: torch.softmax(x @ x.mT, -1)],
    "only the class token": [lambda x: with_class_token(x.flatten(2).mT)[:, :1]],
}


@pytest.mark.parametrize("view", NO_MAPS)
def test_what_is_not_a_map_is_not_one(view):
    assert layer_and_map(Moves(*NO_MAPS[view]), coded())[0] is None


def patches(x):
    return x.unfold(2, 4, 4).unfold(3, 4, 4).unfold(4, 4, 4)  # (1, c, a, b, c, 4, 4, 4)


COARSER = {
    "convolved patches": ([nn.Conv3d(3, 5, 4, 4), lambda x: x.flatten(2).mT], 5),
    "unfolded patches": (
        [
            patches,
            lambda x: x.permute(0, 2, 3, 4, 1, 5, 6, 7).reshape(1, 12, -1),
            nn.Linear(192, 5),
        ],
        5,
    ),
    "patches by views": (
        [
            lambda x: x.view(1, 3, 2, 4, 3, 4, 2, 4),
            lambda x: x.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(1, 12, 192),
            nn.Linear(192, 5),
        ],
        5,
    ),
    "merged patches": (
        [
            lambda x: x.permute(0, 2, 3, 4, 1),
            lambda x: torch.cat(
                [x[:, a::4, b::4, c::4] for a in (0, 3) for b in (0, 3) for c in (0, 3)], -1
            ),
        ],
        24,
    ),
    "mean over windows": ([lambda x: x.view(1, 3, 2, 4, 3, 4, 2, 4).mean((3, 5, 7))], 3),
}


@pytest.mark.parametrize("way", COARSER)
def test_cells_of_patches_are_found_and_centred(way):
    operations, channels = COARSER[way]
    torch.manual_seed(0)
    net = Moves(*operations)
    for n, operation in enumerate(operations):
        if isinstance(operation, nn.Module):
            net.add_module(f"part{n}", operation)
    x = torch.rand(1, 3, 8, 12, 8)
    layer, output = layer_and_map(net, x)
    assert (layer.channels, layer.shape) == (channels, (2, 3, 2))
    before = layer.map_of(output)
    for cell in np.ndindex(2, 3, 2):
        changed = x.clone()
        place = tuple(slice(4 * n, 4 * n + 4) for n in cell)
        changed[(0, slice(None), *place)] += 1
        after = layer.map_of(layer_and_map(net, changed)[1])
        moved = (after - before).abs().sum(1)[0]
        assert np.unravel_index(int(moved.argmax()), layer.shape) == cell
        assert moved.sum() == pytest.approx(moved.max().item(), rel=1e-4)
    if way != "merged patches":  # of which one alone is followed, not their mean
        assert (layer.grid.start, layer.grid.step) == ((1.5,) * 3, (4.0,) * 3)


class ConvNeXtBlock(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.dw, self.norm = nn.Conv3d(d, d, 3, padding=1, groups=d), nn.LayerNorm(d)
        self.up, self.act, self.down = nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d)

    def forward(self, x):
        y = self.dw(x).permute(0, 2, 3, 4, 1)
        return x + self.down(self.act(self.up(self.norm(y)))).permute(0, 4, 1, 2, 3)


class ConvNeXt(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.block = nn.Conv3d(1, 8, 4, stride=4), ConvNeXtBlock(8)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.block(self.stem(x)).mean((2, 3, 4)))


class Transformer(nn.Module):
    """Patches, a class token, two blocks; the class token or the mean of all tokens is read."""

    def __init__(self, pooled):
        super().__init__()
        self.stem, self.pooled = nn.Conv3d(1, 8, 4, stride=4), pooled
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        layers = [nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2)]
        self.blocks, self.head = nn.ModuleList(layers), nn.Linear(8, 2)

    def forward(self, x):
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), self.stem(x).flatten(2).mT], 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1) if self.pooled else x[:, 0])


def by_hand(net, layer, x, arrange):
    """Grad-CAM of class 0, with the axes put in their places by hand."""
    kept = {}

    def keep(module, args, output):
        output.requires_grad_(True)
        output.retain_grad()
        kept["a"] = output

    handle = net.get_submodule(layer).register_forward_hook(keep)
    x = x.requires_grad_()
    net.eval()(x)[0, 0].backward()
    handle.remove()
    a, g = arrange(kept["a"].detach()), arrange(kept["a"].grad)
    return (a * g.mean((1, 2, 3), keepdim=True)).sum(0).numpy()


def last_channels(t):
    return t[0].movedim(-1, 0)


def tokens_of(t):
    return t[0, 1:].mT.reshape(8, 6, 7, 8)


@pytest.mark.parametrize(
    ("make", "layer", "arrange"),
    [
        (ConvNeXt, "block.act", last_channels),
        (ConvNeXt, "block.up", last_channels),
        (ConvNeXt, "block", lambda t: t[0]),
        (lambda: Transformer(True), "blocks.0", tokens_of),
        (lambda: Transformer(True), "blocks.1", tokens_of),
        (lambda: Transformer(False), "blocks.0", tokens_of),
    ],
)
def test_grad_cam_weights_channels_wherever_they_are(make, layer, arrange):
    torch.manual_seed(0)
    net = make()
    scan = cv.Volume(np.random.default_rng(0).random((24, 28, 32)).astype(np.float32))
    model = cv.Model(net, device="cpu")
    ours = cv.grad_cam(model, scan, 0, layer=layer, relu=False)
    assert not any("zero" in note for note in ours.notes)
    x = torch.from_numpy(model.conform(scan).channels)[None]
    true = by_hand(net, layer, x, arrange)
    assert np.abs(true).max() > 0
    np.testing.assert_allclose(ours.native, true, rtol=1e-4, atol=1e-6 * np.abs(true).max())


def test_tokens_that_nobody_reads_are_not_offered():
    for pooled, last in ((True, "blocks.1"), (False, "blocks.0")):
        model = cv.Model(Transformer(pooled), device="cpu", input_spec=cv.InputSpec((24, 28, 32)))
        assert model.recommended_layer == last
        if not pooled:
            assert "blocks.1" not in model.target_layers
            with pytest.raises(MethodError, match=r"blocks\.1 has no say in the scores"):
                model.layer("blocks.1")


def test_the_default_layer_of_a_network_of_slices_is_a_map_of_the_scan():
    class Slices(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu, self.out = nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Linear(8, 2)

        def forward(self, x):
            n, c, d, h, w = x.shape
            y = self.relu(self.conv(x.transpose(1, 2).reshape(n * d, c, h, w))).mean((2, 3))
            return self.out(y.view(n, d, -1).mean(1))

    torch.manual_seed(0)
    net = Slices()
    model = cv.Model(net, device="cpu")
    scan = cv.Volume(np.random.default_rng(0).random((12, 16, 14)).astype(np.float32))
    ours = cv.grad_cam(model, scan, 0, relu=False)
    assert model.recommended_layer == "relu"
    x = torch.from_numpy(model.conform(scan).channels)[None]
    true = by_hand(net, "relu", x, lambda t: t.transpose(0, 1))
    np.testing.assert_allclose(ours.native, true, rtol=1e-4, atol=1e-7)
    assert model.layer("relu").grid.step == (1, 2, 2)
