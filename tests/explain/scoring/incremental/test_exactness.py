"""Scores of occluded volumes equal those of full passes, whatever the network and the regions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from napari_cnnvis.models.networks.vox import VoxResNetGAP

KINDS = ("voxel", "corner", "box", "scattered", "whole")


class Residual(nn.Module):
    def __init__(self, inner, outer):
        super().__init__()
        self.inner, self.outer = inner, outer

    def forward(self, x):
        return self.outer(self.inner(x) + x)


class Branches(nn.Module):
    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return torch.cat([x, *(branch(x) for branch in self.branches)], 1)


class GlobalMax(nn.Module):
    def forward(self, x):
        return x.amax((2, 3, 4))


def triple(low, high):
    return st.tuples(*[st.integers(low, high)] * 3)


kernels, strides, dilations, paddings = triple(1, 3), triple(1, 2), triple(1, 2), triple(0, 2)
activations = st.sampled_from([nn.ReLU(), nn.ReLU(True), nn.LeakyReLU(0.2, True), nn.SiLU(True)])


@st.composite
def layers(draw, channels):
    kind = draw(st.sampled_from(["conv", "conv", "pool", "norm", "act", "residual", "branch"]))
    if kind == "conv":
        groups, outputs = draw(st.sampled_from([1, channels])), draw(st.sampled_from([1, 2]))
        options = [draw(s) for s in (kernels, strides, paddings, dilations)]
        return nn.Conv3d(channels, channels * outputs, *options, groups)
    if kind == "pool":
        kernel, stride = draw(kernels), draw(triple(1, 3))
        padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
        ceil, average = draw(st.booleans()), draw(st.booleans())
        if average:
            return nn.AvgPool3d(kernel, stride, padding, ceil, draw(st.booleans()))
        return nn.MaxPool3d(kernel, stride, padding, draw(dilations), ceil_mode=ceil)
    if kind == "norm":
        return nn.BatchNorm3d(channels)
    if kind == "residual":
        inner = nn.Conv3d(channels, channels, draw(kernels), padding="same", dilation=2)
        return Residual(nn.Sequential(nn.BatchNorm3d(channels), inner), draw(activations))
    if kind == "branch":
        one, wide = nn.Conv3d(channels, 1, 1), nn.Conv3d(channels, 1, 3, padding=1)
        return Branches(nn.Sequential(one, draw(activations)), wide)
    return draw(activations)


@st.composite
def networks(draw):
    """A stack of layers that fit each other, and the volume's shape."""
    shape, chosen = draw(triple(5, 9)), []
    x = torch.zeros(1, 1, *shape)
    for _ in range(draw(st.integers(1, 6))):
        layer = draw(layers(x.shape[1])).eval()
        try:
            with torch.no_grad():
                y = layer(x)
        except RuntimeError:  # the map is too small for it
            continue
        if y.shape[1] <= 6:
            chosen.append(layer)
            x = y
    head = draw(st.sampled_from(["mean", "max", "flatten"]))
    if head == "flatten":
        return nn.Sequential(*chosen, nn.Flatten(), nn.Linear(x[0].numel(), 2)), shape
    pool = GlobalMax() if head == "max" else nn.AdaptiveAvgPool3d(1)
    return nn.Sequential(*chosen, pool, nn.Flatten(), nn.Linear(x.shape[1], 2)), shape


cases = {
    "case": networks(),
    "kinds": st.lists(st.sampled_from(KINDS), min_size=1, max_size=8),
    "seed": st.integers(0, 99),
    "dtype": st.sampled_from([torch.float32, torch.float64]),
}


@settings(max_examples=25)
@given(**cases)
def test_random_networks(check_exact, case, kinds, seed, dtype):
    check_exact(*case, kinds, seed, dtype)


@pytest.mark.slow
@settings(max_examples=500)
@given(**cases)
def test_many_random_networks(check_exact, case, kinds, seed, dtype):
    check_exact(*case, kinds, seed, dtype)


class Attention(nn.Module):
    """Each position looks at all others."""

    def __init__(self, channels):
        super().__init__()
        self.inner = nn.MultiheadAttention(channels, 2, batch_first=True)

    def forward(self, x):
        rows = x.flatten(2).transpose(1, 2)
        mixed, _ = self.inner(rows, rows, rows, need_weights=False)
        return x + mixed.transpose(1, 2).reshape(x.shape)


class SqueezeExcite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.gate = nn.Sequential(
            nn.Conv3d(channels, 2, 1), nn.ReLU(True), nn.Conv3d(2, channels, 1)
        )

    def forward(self, x):
        return x * torch.sigmoid(self.gate(x.mean((2, 3, 4), keepdim=True)))


class LastNorm(nn.Module):
    """Layer norm over channels, which are moved to the end and back."""

    def __init__(self, channels):
        super().__init__()
        self.inner = nn.LayerNorm(channels)

    def forward(self, x):
        return self.inner(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)


class SpatialGate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.gate = nn.Conv3d(channels, 1, 3, padding=1)

    def forward(self, x):
        return x * torch.sigmoid(self.gate(x)).add_(0.5)


class UsedAgain(nn.Module):
    """Activations whose input is needed after them."""

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.BatchNorm3d(channels)

    def forward(self, x):
        return F.relu(x) + F.silu(x) * self.norm(x) + torch.sigmoid(x) - x


MIDDLES = {
    "group norm": nn.GroupNorm(2, 4),
    "instance norm": nn.InstanceNorm3d(4, affine=True),
    "layer norm": LastNorm(4),
    "squeeze and excite": SqueezeExcite(4),
    "spatial gate": SpatialGate(4),
    "used again": UsedAgain(4),
    "self-attention": Attention(4),
    "transformer": nn.Sequential(
        nn.Flatten(2), nn.Linear(120, 8), nn.TransformerEncoderLayer(8, 2, 8, batch_first=True),
        nn.Linear(8, 120), nn.Unflatten(2, (4, 5, 6)),
    ),
    "transposed conv": nn.ConvTranspose3d(4, 4, 3, stride=2),
    "upsampling": nn.Upsample(scale_factor=2, mode="trilinear"),
    "reflection": nn.Conv3d(4, 4, 3, padding=1, padding_mode="reflect"),
    "softmax": nn.Softmax(1),
    "pool of what is there": nn.AvgPool3d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    "sum pool": nn.Sequential(nn.AvgPool3d(2, 1, divisor_override=3), nn.BatchNorm3d(4)),
    "padding": nn.ConstantPad3d((2, 0, 1, 3, 0, 1), -0.7),
    "norm first": nn.Sequential(nn.BatchNorm3d(4), nn.Mish(), nn.Conv3d(4, 4, 1), nn.Hardtanh()),
}  # fmt: skip


@pytest.mark.parametrize("name", MIDDLES)
def test_any_layer_in_the_middle(check_exact, gap_net, name):
    net = gap_net([nn.Conv3d(1, 4, 3), MIDDLES[name], nn.Conv3d(4, 3, 3, padding=1)], 3)
    assert check_exact(net, (6, 7, 8), KINDS * 2, seed=1) > 0.01


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_padding_that_is_wider_behind_than_before(check_exact, gap_net):
    even = nn.Conv3d(4, 4, (2, 4, 2), padding="same", dilation=(1, 1, 3))
    assert check_exact(gap_net([nn.Conv3d(1, 4, 3), even], 4), (7, 8, 9), KINDS * 2) > 0.01


HEADS = {
    "average of everything": lambda x: F.avg_pool3d(x, x.shape[2:]).flatten(1),
    "sum of everything": lambda x: F.avg_pool3d(x, x.shape[2:], divisor_override=50).flatten(1),
    "largest of everything": lambda x: F.max_pool3d(x, x.shape[2:]).flatten(1),
    "adaptive maximum": lambda x: F.adaptive_max_pool3d(x, 1).flatten(1),
    "mean and maximum": lambda x: torch.cat([x.mean((2, 3, 4)), x.amax((-1, -2, -3))], 1),
    "mean of another type": lambda x: x.mean((2, 3, 4), dtype=torch.float64).float(),
    "softmax": lambda x: x.mean((2, 3, 4)).softmax(1),
    "flattened after writing in place": lambda x: torch.relu_(x).flatten(1)[:, ::7],
    "view": lambda x: torch.relu(x).contiguous().view(x.shape[0], -1)[:, ::7],
}


@pytest.mark.parametrize("name", HEADS)
def test_any_head(check_exact, calls, name):
    net = calls(lambda x, c: HEADS[name](c(x)), nn.Conv3d(1, 3, 3, stride=(1, 1, 2)))
    assert check_exact(net, (6, 7, 8), KINDS * 2, seed=2) > 0.01


def test_the_cam_network(check_exact):
    assert check_exact(VoxResNetGAP(), (14, 15, 16)) > 0.01


MONAI = {
    "resnet18": {"n_input_channels": 1, "num_classes": 2},
    "DenseNet121": {"in_channels": 1, "out_channels": 2},
    "SEResNet50": {"in_channels": 1, "num_classes": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MONAI)
def test_networks_of_monai(check_exact, name):
    nets = pytest.importorskip("monai.networks.nets")
    net = getattr(nets, name)(spatial_dims=3, **MONAI[name])
    assert check_exact(net, (32, 32, 32)) > 0.01
