"""Channels that are split, permuted, padded, grouped or come last do not mix positions."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from napari_cnnvis.explain.scoring.incremental.forms import PLAIN_FORM, Form
from napari_cnnvis.explain.scoring.incremental.operations import Whole

SHAPE = (9, 10, 11)


class Net(nn.Module):
    """Two convolutions and a linear layer; what is between them is `middle`."""

    def __init__(self, middle, channels, *parts):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv3d(1, 8, 3, padding=1), nn.Conv3d(channels, 4, 3)
        self.parts, self.middle, self.out = nn.ModuleList(parts), middle, nn.Linear(4, 2)

    def forward(self, x):
        x = self.last(self.middle(self.first(x), *self.parts))
        return self.out(x.mean((2, 3, 4)))


def conv(i, o, k=3, **how):
    return nn.Conv3d(i, o, k, padding=k // 2, **how)


def convnext(x, depthwise, norm, up, down):
    y = depthwise(x).permute(0, 2, 3, 4, 1)
    return x + down(F.gelu(up(norm(y)))).permute(0, 4, 1, 2, 3)


def scaled(x, norm, gamma):
    """Channels last, with a factor for each channel (LayerScale)."""
    return (norm(x.movedim(1, -1)) * gamma.weight[0]).movedim(-1, 1)


def norm_over_channels(x):
    mean = x.mean(1, keepdim=True)
    return (x - mean) / torch.sqrt((x - mean).pow(2).mean(1, keepdim=True) + 1e-6)


def shuffled(x):
    n, c, *grid = x.shape
    return x.view(n, 2, c // 2, *grid).transpose(1, 2).contiguous().view(n, c, *grid)


def shuffled_otherwise(x):
    n, c, *grid = x.shape
    return x.reshape(n, 4, c // 4, *grid).transpose(1, 2).reshape(x.shape)


def attended(x, spatial):
    """CBAM's attention over space: mean and maximum over channels."""
    found = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
    return x * spatial(found).sigmoid()


def shortcut_a(x):
    """Every other position, and channels of zeros (ResNet's shortcut of type A)."""
    x = x[:, :, ::2, ::2, ::2]
    zeros = torch.zeros(x.size(0), 4, *x.shape[2:], dtype=x.dtype, device=x.device)
    return torch.cat([x.data, zeros], 1)


LOCAL = {
    "ConvNeXt": (convnext, 8, conv(8, 8, groups=8), nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)),
    "LayerScale": (scaled, 8, nn.LayerNorm(8), nn.Embedding(1, 8)),
    "norm over channels": (norm_over_channels, 8),
    "ShuffleNet": (shuffled, 8),
    "shuffled by reshape": (shuffled_otherwise, 8),
    "chunk": (lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), 8),
    "split": (lambda x: torch.cat([x.split([3, 5], 1)[1].relu(), x[:, :3]], 1), 8),
    "gate": (lambda x: x[:, :4] * x[:, 4:].sigmoid(), 4),
    "unbind of groups": (lambda x: torch.mul(*x.unflatten(1, (2, -1)).unbind(1)), 4),
    "maximum over groups": (lambda x: x.unflatten(1, (4, -1)).amax(2), 4),
    "channel padding": (lambda x: F.pad(x, (0, 0, 0, 0, 0, 0, 2, 1)), 11),
    "attention over space": (attended, 8, conv(2, 1, 3)),
    "shortcut A": (shortcut_a, 12),
    "slices": (lambda x: x[:, ::2, 1:-1, 2:, :-1], 4),
    "other order of axes and back": (lambda x: x.permute(0, 1, 4, 2, 3).relu().permute(0, 1, 3, 4, 2), 8),
    "softmax over channels": (lambda x: x * x.softmax(1), 8),
    "unsqueezed": (lambda x: x.unsqueeze(1).tanh().squeeze(1), 8),
    "two permuted": (lambda x: (x.movedim(1, -1) + x.movedim(1, -1).sin()).movedim(-1, 1), 8),
}  # fmt: skip


@pytest.mark.parametrize("name", LOCAL)
def test_what_is_local_is_followed_box_by_box_and_exact(check_exact, program_of, name):
    middle, channels, *parts = LOCAL[name]
    net = Net(middle, channels, *parts).eval()
    program = program_of(net, SHAPE)
    assert program.mixing() is None
    maps = [op for op in program.operations if isinstance(op, Whole) and op.sources]
    assert not maps
    assert check_exact(net, SHAPE) > 0


def per_position(x, weights):
    return x + weights.weight.view(1, 1, *SHAPE)


def flat(x):
    return x.flatten(2).softmax(-1).view(x.shape)


def of_space(x):
    return x - x.mean((2, 3, 4), keepdim=True)


MIXING = {
    "tokens": (flat, 8),
    "mean over space": (of_space, 8),
    "norm over all": (lambda x: F.layer_norm(x, x.shape[1:]), 8),
    "groups": (lambda x, norm: norm(x), 8, nn.GroupNorm(2, 8)),
    "axes exchanged": (lambda x: x.transpose(2, 3).transpose(2, 3).flip(2), 8),
    "a weight for each position": (per_position, 8, nn.Embedding(1, 990)),
    "a norm along space, channels last": (lambda x: x.movedim(1, -1).softmax(1).movedim(-1, 1), 8),
}


@pytest.mark.parametrize("name", MIXING)
def test_what_is_not_local_is_computed_on_whole_maps_and_exact(check_exact, program_of, name):
    middle, channels, *parts = MIXING[name]
    net = Net(middle, channels, *parts).eval()
    assert program_of(net, SHAPE).mixing() is not None
    assert check_exact(net, SHAPE) > 0


def test_a_form_is_undone_by_its_inverse():
    x = torch.arange(2 * 6 * 3 * 4 * 5.0).view(2, 6, 3, 4, 5)
    assert PLAIN_FORM.plain(x) is x
    for axes, shape in (
        ((0, 1, 2, -1), (2, 3, 4, 5, 6)),
        ((-1, -1, 0, 1, 2), (2, 2, 3, 3, 4, 5)),
        ((-1, 2, 0, -1, 1), (2, 3, 5, 3, 2, 4)),
    ):
        form = Form(axes)
        native = form.native(x, shape)
        assert tuple(native.shape) == shape
        torch.testing.assert_close(form.plain(native), x)
        assert (form.grid(shape), form.n_channels(shape)) == ([3, 4, 5], 6)


@pytest.mark.parametrize(
    ("before", "after", "axes"),
    [
        ((2, 6, 3, 4, 5), (2, 2, 3, 3, 4, 5), (-1, -1, 0, 1, 2)),
        ((2, 6, 3, 4, 5), (2, 1, 6, 3, 4, 5), (-1, -1, 0, 1, 2)),
        ((2, 6, 3, 4, 5), (2, 6, 12, 5), None),
        ((2, 6, 3, 4, 5), (2, 18, 4, 5), None),
        ((2, 6, 3, 4, 5), (12, 3, 4, 5), None),
        ((2, 6, 3, 4, 5), (2, 6, 3, 4, 5, 1), (-1, 0, 1, 2, -1)),
    ],
)
def test_views_split_and_join_channels_only(before, after, axes):
    assert PLAIN_FORM.viewed(before, after) == (None if axes is None else Form(axes))
    assert np.prod(before) == np.prod(after)
