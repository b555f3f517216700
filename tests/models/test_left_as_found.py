"""After anything that is done with it, a user's network is the one that he gave, bit for bit."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import napari_cnnvis as cv
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.models.networks.clinicadl import Conv5_FC3
from napari_cnnvis.models.networks.vox import VoxResNet, VoxResNetGAP, VoxVGG


class Twice(nn.Module):
    """Layers under two names, as in MONAI's DynUNet."""

    def __init__(self):
        super().__init__()
        self.c1, self.c2 = nn.Conv3d(1, 4, 3), nn.Conv3d(4, 4, 3)
        self.norm = nn.BatchNorm3d(4)
        self.body = nn.Sequential(self.c1, self.norm, nn.ReLU(inplace=True), self.c2)
        self.again = nn.ModuleList([self.c1, self.body])
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.body(x).mean((2, 3, 4)))


class Tied(nn.Module):
    """Two layers with one weight, and a buffer that is a view of it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv3d(1, 4, 3)
        self.a, self.b = nn.Conv3d(4, 4, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1)
        self.b.weight = self.a.weight
        self.register_buffer("scale", torch.ones(4, 1, 1, 1), persistent=False)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        x = torch.relu(self.b(torch.relu(self.a(self.first(x)))) * self.scale)
        return self.out(x.mean((2, 3, 4)))


class Scaled(nn.Module):
    """Weights of one to six dimensions, whole numbers among the buffers (LayerScale, Conv2d)."""

    def __init__(self):
        super().__init__()
        self.conv, self.gamma = nn.Conv3d(1, 4, 3), nn.Parameter(torch.ones(4, 1, 1, 1))
        self.flat, self.six = (
            nn.Conv2d(4, 4, 3, padding=1),
            nn.Parameter(torch.ones(1, 1, 1, 1, 1, 1)),
        )
        self.register_buffer("order", torch.arange(4))
        self.register_buffer("mask", torch.ones(1, 4, 1, 1, 1, dtype=torch.bool))
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        x = torch.relu(self.conv(x) * self.gamma)[:, self.order].where(self.mask, 0.0)
        x = self.flat(x.mean(4)) * self.six[0, 0]
        return self.out(x.mean((2, 3)))


class Looks(Twice):
    """Code that looks at values cannot run on shapes alone."""

    def forward(self, x):
        return super().forward(x if float(x.sum()) > -1 else x + 1)


class ReadsAgain(Twice):
    """Uses a map again after an activation in place has written over it."""

    def forward(self, x):
        x = self.c1(x)
        return self.out(
            (self.body[2](x)[:, :, 1:] + x[:, :, 1:]).mean((2, 3, 4)) + x.amax((2, 3, 4))
        )


class WritesIntoItsInput(Twice):
    def forward(self, x):
        return super().forward(x.sub_(0.3))


class Remembers(Twice):
    """Keeps tensors of its last pass in attributes, a list and a buffer."""

    def __init__(self):
        super().__init__()
        self.maps = []
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x):
        self.passes += 1
        self.last = self.c1(x)
        self.maps.append(self.last)
        return super().forward(x)


class Fails(Twice):
    """Fails in the middle, when its weights are not what they were."""

    def forward(self, x):
        self.body(x)
        raise KeyError("no such thing")


def normed():
    net = Tied()
    parametrizations.weight_norm(net.first)
    parametrizations.spectral_norm(net.a)
    return net


def monai(name, **arguments):
    nets = pytest.importorskip("monai.networks.nets")
    return getattr(nets, name)(spatial_dims=3, **arguments)


class Encoder(nn.Module):
    """MONAI's DynUNet, which registers most of its layers twice, with one score for each class."""

    def __init__(self):
        super().__init__()
        self.net = monai(
            "DynUNet",
            in_channels=1,
            out_channels=2,
            kernel_size=[3, 3, 3],
            strides=[1, 2, 2],
            upsample_kernel_size=[2, 2],
        )

    def forward(self, x):
        return self.net(x).mean((2, 3, 4))


NETWORKS = {
    "Twice": (Twice, 14),
    "Tied": (Tied, 14),
    "Scaled": (Scaled, 14),
    "Looks": (Looks, 14),
    "ReadsAgain": (ReadsAgain, 14),
    "WritesIntoItsInput": (WritesIntoItsInput, 14),
    "Remembers": (Remembers, 14),
    "weight and spectral norm": (normed, 14),
    "VoxVGG": (VoxVGG, 110),
    "VoxResNet": (lambda: VoxResNet(in_channels=1), 110),
    "VoxResNetGAP": (VoxResNetGAP, 24),
    "Conv5_FC3": (lambda: Conv5_FC3(shape=(64, 64, 64)), 64),
    "DynUNet": (Encoder, 16),
    "DenseNet121": (lambda: monai("DenseNet121", in_channels=1, out_channels=2, block_config=(2, 2, 2, 2)), 32),
    "resnet10": (lambda: monai("resnet10", n_input_channels=1, num_classes=2, widen_factor=0.25), 32),
    "SEResNet50": (lambda: monai("SEResNet50", in_channels=1, num_classes=2, layers=(1, 1, 1, 1)), 32),
    "EfficientNetBN": (
        lambda: monai("EfficientNetBN", model_name="efficientnet-b0", in_channels=1, num_classes=2, pretrained=False),
        32,
    ),
    "ViT": (
        lambda: monai("ViT", in_channels=1, img_size=32, patch_size=16, hidden_size=24, mlp_dim=32, num_layers=2, num_heads=2, classification=True),
        32,
    ),
}  # fmt: skip


def everything_of(net):
    """What a network is: its tensors themselves and their values, flags, hooks, gradients."""
    found = []
    for path, module in net.named_modules(remove_duplicate=False):
        found.append((path, id(module), module.training, getattr(module, "inplace", None)))
        found.append((sorted(vars(module)), len(getattr(module, "maps", ()))))
        found.append(tuple(id(h) for h in module._forward_hooks.values()))
        for kind in (module._parameters, module._buffers):
            for name, tensor in kind.items():
                if tensor is None:
                    found.append((path, name, None))
                    continue
                value = tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
                gradient = None if tensor.grad is None else tensor.grad.clone()
                found.append((path, name, id(tensor), type(tensor), tensor.requires_grad, tensor.dtype, tuple(tensor.shape), gradient, value))  # fmt: skip
    return found


def alone(net, data):
    """The first logit as a copy of the network gives it in evaluation mode."""
    own = copy.deepcopy(net).eval()
    with torch.no_grad():
        found = own(torch.from_numpy(data.copy())[None, None])
    return float((found[0] if isinstance(found, tuple) else found)[0, 0])


def hierarchy_of(size):
    half = np.indices((size,) * 3)[0] * 2 // size
    return cv.Hierarchy.from_levels([half + 1])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_left_as_it_was_found(name):
    make, size = NETWORKS[name]
    torch.manual_seed(0)
    net = make()
    for number, parameter in enumerate(net.parameters()):
        parameter.requires_grad_(number % 3 != 0)
    net.train()
    next(iter(net.children())).eval()
    rng = np.random.default_rng(0)
    data = rng.random((size,) * 3).astype(np.float32)
    scan = cv.Volume(data)
    spec = cv.InputSpec(shape=(size,) * 3, intensity="none")
    with torch.no_grad():
        flags = [(m, m.training) for m in net.modules()]
        want = net.eval()(torch.from_numpy(data.copy())[None, None])
        want = want[0] if isinstance(want, tuple) else want
        for module, flag in flags:
            module.training = flag
    before = everything_of(net)
    model = cv.Model(net, input_spec=spec, device="cpu")
    assert everything_of(net) == before
    got = model.logits(model.tensor(data))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * float(want.abs().max()))
    model.predict(scan)
    assert model.weights_hash()
    if size > 100:  # minutes of work, and nothing that smaller ones do not have
        assert everything_of(net) == before
        return
    if model.recommended_layer is not None:
        cv.grad_cam(model, scan, target=0)
    half = np.indices((size,) * 3)[0] < size // 2
    for engine in ("auto", "full"):
        found = cv.sensitivity(
            model, scan, hierarchy_of(size), target=0, baseline=0, score="logit", engine=engine
        )
        assert everything_of(net) == before
        drop = alone(net, data) - alone(net, np.where(half, np.float32(0), data))
        scale = float(want.abs().max())
        np.testing.assert_allclose(found.data[0, 0, 0], drop, atol=1e-4 * scale)


@pytest.mark.parametrize("make", [Fails, lambda: nn.Sequential(Twice(), nn.Linear(3, 2))])
def test_also_when_it_fails(make):
    net = make()
    before = everything_of(net)
    with pytest.raises((CnnVisError, KeyError)):
        cv.Model(net, device="cpu")
    assert everything_of(net) == before


def test_also_when_it_is_interrupted():
    class Stopped(Twice):
        def forward(self, x):
            raise KeyboardInterrupt

    net = Stopped()
    before = everything_of(net)
    with pytest.raises(KeyboardInterrupt):
        cv.Model(net, device="cpu")
    assert everything_of(net) == before
