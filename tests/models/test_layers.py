"""What layers a network has, and where their cells lie in the input."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from napari_cnnvis.errors import ComputeError
from napari_cnnvis.models.layers import find_layers
from napari_cnnvis.models.networks.vox import ElementwiseSum, VoxResNet, VoxResNetGAP, VoxVGG

GAP = [nn.AdaptiveAvgPool3d(1), nn.Flatten()]


def names(module, shape=(1, 12, 12, 12)):
    return [target.name for target in find_layers(module, shape).targets]


def layer_of(module, name, shape):
    return next(t for t in find_layers(module, (1, *shape)).targets if t.name == name)


def output_of(module, name, x):
    kept = []
    handle = module.get_submodule(name).register_forward_hook(lambda *a: kept.append(a[-1]))
    with torch.no_grad():
        module.eval()(x)
    handle.remove()
    return kept[0]


def with_positive_weights(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(0.25)
    return module


def support(module, name, shape, cell, axis):
    """First and last plane along `axis` that have a say in one cell, found by brightening each."""
    base = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    batch = base.repeat(shape[axis] + 1, 1, 1, 1)
    for plane in range(shape[axis]):
        batch[plane + 1].select(axis, plane).add_(100)
    values = output_of(module, name, batch[:, None])[:, :, *cell].sum(1)
    planes = np.flatnonzero((values[1:] > values[0] + 1).numpy())
    return planes[0], planes[-1]


def centres(module, name, shape):
    """Along each axis, the middle cell's centre as listed and as measured (nan if an edge cuts it)."""
    module = with_positive_weights(module)
    layer = layer_of(module, name, shape)
    assert tuple(output_of(module, name, torch.rand(1, 1, *shape)).shape[2:]) == layer.shape
    cell = tuple(n // 2 for n in layer.shape)
    listed = np.add(layer.grid.start, np.multiply(layer.grid.step, cell))
    measured = np.full(3, np.nan)
    for axis in range(3):
        first, last = support(module, name, shape, cell, axis)
        if first > 0 and last < shape[axis] - 1:
            measured[axis] = (first + last) / 2
    return listed, measured


class Pad(nn.Module):
    """Constant padding, last axis first, of as many axes as `sizes` names."""

    def __init__(self, *sizes):
        super().__init__()
        self.sizes = sizes

    def forward(self, x):
        return F.pad(x, self.sizes)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv3d(1, 1, 3, padding=1)
        self.conv2 = nn.Conv3d(1, 1, 3, padding=1)
        self.out = ElementwiseSum()

    def forward(self, x):
        return self.out(x, self.conv2(self.conv1(x)))


CHAINS = {
    "VGG group": [nn.Conv3d(1, 1, 3), nn.ReLU(), nn.Conv3d(1, 1, 3), nn.MaxPool3d(2), nn.Conv3d(1, 1, 3)],
    "strides": [nn.Conv3d(1, 1, 3, stride=2), nn.Conv3d(1, 1, (3, 1, 5), stride=(1, 3, 2))],
    "dilation": [nn.Conv3d(1, 1, 3, dilation=(1, 2, 3), padding=(0, 2, 1)), nn.Conv3d(1, 1, 2)],
    "pools": [nn.AvgPool3d(3, 2, 1), nn.MaxPool3d(2, 1, 1, 2), nn.Conv3d(1, 1, 1)],
    "asymmetric padding": [nn.ConstantPad3d((1, 0, 3, 2, 0, 4), 0.0), nn.Conv3d(1, 1, 3, stride=2)],
    "padding of one axis": [Pad(4, 1), nn.Conv3d(1, 1, 3, stride=2)],
    "padding of two axes": [Pad(0, 0, 5, 1), nn.Conv3d(1, 1, 3, stride=2)],
    "cropping": [Pad(-2, 0, 0, -3, -1, -1), nn.Conv3d(1, 1, 3)],
    "padding 'same'": [nn.Conv3d(1, 1, 3, padding="same"), nn.Conv3d(1, 1, 5, padding="same")],
    "residual": [nn.Conv3d(1, 1, 2, stride=2), Residual(), nn.MaxPool3d(2), nn.Conv3d(1, 1, 3)],
}  # fmt: skip


@pytest.mark.parametrize("chain", CHAINS)
def test_cells_lie_at_the_centre_of_their_receptive_field(chain):
    layers = CHAINS[chain]
    listed, measured = centres(nn.Sequential(*layers), f"{len(layers) - 1}", (25, 26, 27))
    np.testing.assert_array_equal(listed, measured)


@pytest.mark.parametrize("name", ["1.conv1", "1.conv2", "1.out"])
def test_every_part_of_a_residual_block_has_its_grid(name):
    net = nn.Sequential(nn.Conv3d(1, 1, 3, stride=2), Residual())
    listed, measured = centres(net, name, (21, 22, 23))
    np.testing.assert_array_equal(listed, measured)


def test_a_block_that_returns_what_its_last_part_returned_is_listed_once():
    assert names(nn.Sequential(Residual())) == ["0.conv1", "0.conv2", "0.out"]


per_axis = st.tuples(*[st.integers(1, 3)] * 3)
dilations = st.tuples(*[st.integers(1, 2)] * 3)
windows = st.tuples(
    st.sampled_from(["conv", "max", "avg"]), per_axis, per_axis, dilations, st.integers(0, 1)
)


def layer_for(kind, kernel, stride, dilation, padding):
    padding = tuple(min(padding, k // 2) for k in kernel)
    if kind == "conv":
        return nn.Conv3d(1, 1, kernel, stride, padding, dilation)
    if kind == "max":
        return nn.MaxPool3d(kernel, stride, padding, dilation)
    return nn.AvgPool3d(kernel, stride, padding)


@settings(max_examples=25)
@given(st.lists(windows, min_size=1, max_size=3), st.lists(st.integers(-1, 3), max_size=6))
def test_grids_of_random_chains(chain, padding):
    layers = [layer_for(*options) for options in chain]
    pads = [Pad(*padding[: len(padding) // 2 * 2])] if len(padding) > 1 else []
    net = nn.Sequential(*pads, *layers, nn.Conv3d(1, 1, 1))
    try:
        listed, measured = centres(net, f"{len(net) - 1}", (26, 27, 28))
    except (ComputeError, StopIteration):  # strides that leave no cell, or a single one
        assume(False)
    whole = np.isfinite(measured)
    assume(whole.any())
    np.testing.assert_array_equal(listed[whole], measured[whole])


def test_what_is_not_followed_has_no_grid():
    net = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Upsample(scale_factor=2), nn.Conv3d(2, 2, 3))
    first, last = find_layers(net, (1, 8, 8, 8)).targets
    assert first.grid is not None
    assert last.grid is None
    transposed = nn.Sequential(nn.ConvTranspose3d(1, 2, 2, stride=2))
    assert find_layers(transposed, (1, 8, 8, 8)).targets[0].grid is None


def test_layers_of_vox_vgg():
    layers = find_layers(VoxVGG(), (1, 110, 110, 110))
    found = [t.name for t in layers.targets]
    groups = [("1", "ab"), ("2", "ab"), ("3", "abc"), ("4", "abc")]
    convolutions = [f"{g}{letter}" for g, letters in groups for letter in letters]
    assert found == [f"{kind}{c}" for c in convolutions for kind in ("conv", "relu")]
    last = layers.targets[found.index("conv4c")]
    assert (last.channels, last.shape) == (64, (3, 3, 3))
    assert last.grid.step == (8.0,) * 3
    assert np.allclose(np.add(last.grid.start, last.grid.step), 54, atol=1.5)
    assert layers.recommended == "relu4a"
    assert [part.width for part in layers.parts] == [2]


def test_layers_of_vox_resnet_are_in_forward_order():
    layers = find_layers(VoxResNet(), (1, 110, 110, 110))
    found = [t.name for t in layers.targets]
    expected = ["conv1a", "conv1c", "voxres2_relu1", "voxres2_out", "relu4", "conv4", "relu7", "voxres9_out"]  # fmt: skip
    assert [n for n in found if n in expected] == expected
    assert layers.recommended == "voxres9_out"


def test_layers_of_a_half_sized_volume():
    layers = find_layers(VoxResNetGAP(), (1, 55, 50, 45))
    assert layers.targets[-1].name == "relu4"
    assert layers.targets[-1].shape == (28, 25, 23)


def test_a_module_called_twice_is_left_out():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.shared = nn.Conv3d(1, 2, 3), nn.Conv3d(2, 2, 3)

        def forward(self, x):
            return self.shared(self.shared(self.first(x)))

    assert names(Twice()) == ["first"]


def test_normalisation_pooling_and_dropout_are_no_targets():
    net = nn.Sequential(
        nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2), nn.GELU(), nn.Dropout3d(), nn.AvgPool3d(2)
    )
    assert names(net) == ["0", "2"]


def sized(*sizes):
    """A net whose convolutions give maps of these sizes, for an input of 20 voxels."""
    layers, size = [], 20
    for n in sizes:
        layers.append(nn.Conv3d(1, 1, size - n + 1))
        size = n
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("sizes", "recommended"),
    [((18, 12, 7, 6), "2"), ((18, 7, 7), "2"), ((6, 5, 3), "0"), ((18, 3), "0"), ((1,), None)],
)
def test_recommended_is_the_deepest_layer_of_seven_cells_else_the_finest(sizes, recommended):
    assert find_layers(sized(*sizes), (1, 20, 20, 20)).recommended == recommended


def test_cam_head_of_the_cam_network():
    head = find_layers(VoxResNetGAP(), (1, 110, 110, 110)).cam_head
    assert (head.features.name, head.features.shape) == ("relu4", (55, 55, 55))
    assert head.linear == "prob"


def monai_net(name):
    monai = pytest.importorskip("monai.networks.nets")
    channels = {"resnet18": {"n_input_channels": 1, "num_classes": 2}}
    densenet = {"in_channels": 1, "out_channels": 2}
    return getattr(monai, name)(spatial_dims=3, **channels.get(name, densenet)).eval()


@pytest.mark.parametrize(
    ("net", "linear"), [("DenseNet121", "class_layers.out"), ("resnet18", "fc")]
)
def test_cam_head_of_monai_networks_gives_their_logits(net, linear):
    net = monai_net(net)
    layers = find_layers(net, (1, 64, 33, 33))
    head = layers.cam_head
    assert head.linear == linear
    x = torch.rand(1, 1, 64, 33, 33, generator=torch.Generator().manual_seed(0))
    maps = output_of(net, head.features.name, x)
    with torch.no_grad():
        torch.testing.assert_close(
            net.get_submodule(linear)(maps.mean((2, 3, 4))), net(x), rtol=1e-4, atol=1e-5
        )
    assert all(t.grid is not None for t in layers.targets)


@pytest.mark.parametrize("net", [VoxVGG, VoxResNet])
def test_cam_is_refused_for_nets_that_flatten(plain, net):
    layers = find_layers(net(), (1, 110, 110, 110))
    assert layers.cam_head is None
    reason = plain(layers.no_cam_reason, "flatten")
    assert f"use Grad-CAM on {layers.recommended}" in reason


HEADS = {
    "max pool": [nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(4, 2)],
    "two linear layers": [*GAP, nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)],
    "pool to 2 x 2 x 2": [nn.AdaptiveAvgPool3d(2), nn.Flatten(), nn.Linear(32, 2)],
    "norm after the pool": [*GAP, nn.BatchNorm1d(4), nn.Linear(4, 2)],
}


@pytest.mark.parametrize("head", HEADS)
def test_cam_is_refused_for_other_heads(plain, head):
    layers = find_layers(nn.Sequential(nn.Conv3d(1, 4, 3), *HEADS[head]), (1, 10, 10, 10))
    assert layers.cam_head is None
    plain(layers.no_cam_reason, "CAM does not apply; use Grad-CAM on 0")


def test_cam_applies_with_dropout_before_the_linear_layer():
    net = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), *GAP, nn.Dropout(), nn.Linear(4, 2))
    head = find_layers(net, (1, 10, 10, 10)).cam_head
    assert (head.features.name, head.linear) == ("1", "5")


def state_of(net):
    return (
        [m.training for m in net.modules()],
        [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in net.modules()],
        [(p.requires_grad, p.device, None if p.grad is None else p.grad.sum().item()) for p in net.parameters()],
        {n: t.tolist() for n, t in net.state_dict().items()},
    )  # fmt: skip


def net_with_a_past():
    net = nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU(True), *GAP, nn.Linear(4, 2))
    net[1].eval()
    net[0].bias.requires_grad_(False)
    net[5].weight.grad = torch.ones(2, 4)
    net[2].register_forward_hook(lambda *_: None)
    return net


def test_finding_layers_changes_nothing():
    net = net_with_a_past()
    before = state_of(net)
    find_layers(net, (1, 8, 8, 8))
    assert state_of(net) == before
    assert net[2].inplace


def test_a_net_that_fails_is_left_as_it_was(plain):
    net = net_with_a_past()
    before = state_of(net)
    with pytest.raises(ComputeError) as caught:
        find_layers(net, (3, 8, 9, 10))
    plain(caught.value, "3 channel(s) of 8 x 9 x 10 voxels")
    assert state_of(net) == before
    assert net[2].inplace


def test_peak_memory_is_that_of_the_largest_operation():
    net = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.Conv3d(8, 2, 3))
    assert find_layers(net, (1, 10, 10, 10)).peak_bytes == 4 * (8000 + 2 * 512)
