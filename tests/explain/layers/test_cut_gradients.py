"""Networks whose code cuts gradients off: computed anyway where that can be, else said."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils import checkpoint as checkpointing
from torch.utils.checkpoint import checkpoint

import napari_cnnvis as cv

SCAN = cv.Volume(np.random.default_rng(0).random((12, 16, 14)).astype(np.float32))


class Net(nn.Module):
    """Two convolutions; `first` and `second` are called on what each gives after its ReLU."""

    def __init__(self, around=lambda f, x: f(x), between=lambda x: x):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 6, 3, padding=1)
        self.out, self.around, self.between = nn.Linear(6, 2), around, between

    def part(self, x):
        return torch.relu(self.b(x))

    def first(self, x):
        return torch.relu(self.a(x))

    def forward(self, x):
        x = self.between(self.around(self.first, x))
        return self.out(self.around(self.part, x).mean((2, 3, 4)))


def without_gradient(function, x):
    with torch.no_grad():
        return function(x)


def first_only(around):
    return lambda function, x: around(function, x) if function.__name__ == "first" else function(x)


def in_inference_mode(function, x):
    with torch.inference_mode():
        return function(x)


CUTS = {
    "checkpoint, reentrant": {"around": lambda f, x: checkpoint(f, x, use_reentrant=True)},
    "checkpoint, not reentrant": {"around": lambda f, x: checkpoint(f, x, use_reentrant=False)},
    "checkpoint by its module": {
        "around": lambda f, x: checkpointing.checkpoint(f, x, use_reentrant=False)
    },
    "checkpoint of a sequence": {
        "around": lambda f, x: checkpointing.checkpoint_sequential([f], 1, x, use_reentrant=False)
    },
    "no_grad about a part": {"around": first_only(without_gradient)},
    "no_grad about all": {"around": without_gradient},
    "no_grad as decorator": {"around": first_only(lambda f, x: torch.no_grad()(f)(x))},
    "set_grad_enabled": {"around": lambda f, x: (torch.set_grad_enabled(False) and None) or f(x)},
    "inference mode": {"around": first_only(in_inference_mode)},
    "detach": {"between": lambda x: x.detach()},
    "detach_ of a copy": {"between": lambda x: x.clone().detach_()},
    ".data": {"between": lambda x: x.data},
    "torch.detach": {"between": torch.detach},
}


@pytest.fixture(autouse=True)
def gradients_as_before():
    yield
    torch.set_grad_enabled(True)


@pytest.mark.parametrize("method", ["grad-cam", "layercam"])
@pytest.mark.parametrize("cut", CUTS)
def test_maps_are_those_of_the_network_without_it(cut, method):
    plain, cutting = (cv.Model(net, device="cpu") for net in (Net(), Net(**CUTS[cut])))
    for layer in ("a", "b"):
        how = {"layer": layer, "relu": False}
        found, true = (cv.explain(m, SCAN, method, target=1, **how) for m in (cutting, plain))
        assert np.abs(true.native).max() > 0
        np.testing.assert_allclose(found.native, true.native, rtol=1e-5, atol=1e-9)
        assert checkpointing.CheckpointFunction.__name__ == "CheckpointFunction"
    every = cv.grad_cam(cutting, SCAN, 1, layer="all", relu=False)
    for name, whole in cv.grad_cam(plain, SCAN, 1, layer="all", relu=False).items():
        np.testing.assert_allclose(every[name].native, whole.native, rtol=1e-5, atol=1e-9)
    if "checkpoint" not in cut:
        assert any("cuts gradients off after a" in note for note in every["a"].notes)


def through_numpy(x):
    return torch.from_numpy(x.detach().cpu().numpy().copy())


@pytest.mark.parametrize("between", [through_numpy, torch.round, lambda x: (x > 0.2).float()])
def test_what_has_no_gradient_is_said(between):
    model = cv.Model(Net(between=between), device="cpu")
    every = cv.grad_cam(model, SCAN, 1, layer="all", relu=False)
    assert not every["a"].native.any()
    assert any("The map is zero." in note and " a" in note for note in every["a"].notes)
    assert every["b"].native.any()
    assert not any("zero" in note for note in every["b"].notes)
    one = cv.grad_cam(model, SCAN, 1, layer="a", relu=False)
    assert one.notes == every["a"].notes


class Dead(nn.Module):
    """`kill` sets what the convolution gives."""

    def __init__(self, kill):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.act, self.out = nn.Conv3d(1, 2, 3), nn.ReLU(), nn.Linear(2, 2)
        kill(self)

    def forward(self, x):
        return self.out(self.act(self.conv(x)).mean((2, 3, 4)))


def all_off(net):
    nn.init.constant_(net.conv.bias, -100.0)


def only_against(net):
    nn.init.constant_(net.conv.weight, 1.0)
    nn.init.constant_(net.out.weight, -1.0)


def no_weights_after(net):
    nn.init.zeros_(net.out.weight)


@pytest.mark.parametrize(
    ("kill", "layer", "words"),
    [
        (all_off, "act", "act gives zeros everywhere"),
        (all_off, "conv", "gradient is zero everywhere at conv"),
        (only_against, "act", "nothing speaks for this class"),
        (no_weights_after, "act", "gradient is zero everywhere at act"),
    ],
)
def test_a_map_of_zeros_says_why(kill, layer, words):
    found = cv.grad_cam(cv.Model(Dead(kill), device="cpu"), SCAN, 0, layer=layer)
    assert not found.data.any()
    assert any(words in note for note in found.notes)


SATURATED = {
    "outputs that stay": (lambda y: y * 0, {}, "outputs stayed the same"),
    "a probability of 1": (
        lambda y: y + torch.tensor([0.0, 1e4]), {"score": "probability"}, "saturated"
    ),
    "nothing to hide": (lambda y: y, {"baseline": 0.0}, "baseline is as the scan"),
}  # fmt: skip


@pytest.mark.parametrize("method", ["box", "sensitivity"])
@pytest.mark.parametrize("way", SATURATED)
def test_a_map_of_drops_that_are_zero_says_why(way, method):
    change, how, words = SATURATED[way]
    net = Net()
    forward = net.forward
    net.forward = lambda x: change(forward(x))
    scan = SCAN
    if way == "nothing to hide":
        scan = cv.Volume(np.zeros((12, 16, 14), np.float32))
    model = cv.Model(net, device="cpu", input_spec=cv.InputSpec(intensity="none"))
    labels = np.indices(scan.data.shape)[0] // 4 + 1
    hierarchy = cv.Hierarchy.from_levels([labels])
    more = {"hierarchy": hierarchy} if method == "sensitivity" else {"inside": "everywhere"}
    found = cv.explain(model, scan, method, target=1, **how, **more)
    assert not found.data.any()
    assert any(words in note for note in found.notes)
