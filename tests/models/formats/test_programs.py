"""Exported programs (.pt2) and TorchScript: the same network as its state dict."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

import napari_cnnvis as cv
from napari_cnnvis.models.checkpoint import load_model
from napari_cnnvis.models.formats.programs import read_exported, read_torchscript
from napari_cnnvis.models.layers import find_layers
from napari_cnnvis.models.model import Model

SHAPE = (12, 11, 10)


class Block(nn.Module):
    """A residual block."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm3d(channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.act(x + self.norm(self.conv(x)))


class Net(nn.Module):
    """A small CAM network with all that tells training from evaluation."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(1, 4, 3, bias=False), nn.BatchNorm3d(4), nn.ReLU(inplace=True)
        )
        self.block = Block(4)
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.pool(self.block(self.stem(x))).flatten(1)
        return self.head(self.drop(x))


class Flat(nn.Module):
    """A network of one input size, that flattens its maps."""

    def __init__(self, side=6):
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 3, padding=1)
        self.act = nn.LeakyReLU()
        self.pool = nn.MaxPool3d(2)
        self.fc = nn.Linear(2 * (side // 2) ** 3, 2)

    def forward(self, x):
        x = self.pool(self.act(self.conv(x)))
        return self.fc(x.view(x.shape[0], -1))


class Branching(nn.Module):
    """A network that looks at values."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 3)
        self.more = nn.Conv3d(2, 3, 3)
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        y = self.more(self.conv(x))
        for _ in range(int(y.mean().item() > 1e9)):
            y = y + 1
        return self.fc(y.view(y.shape[0], 3, -1).mean(dim=2))


def trained(net):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in [*net.parameters(), *net.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.8 + 0.1)
    return net


def exported(net, path, shape=SHAPE, batch=1, dynamic=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            net, (torch.rand(batch, 1, *shape),), dynamic_shapes=dynamic and (dynamic,)
        )
        torch.export.save(program, path)
    return path


def scripted(net, path, traced=True, shape=SHAPE):
    net = net.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = (
            torch.jit.trace(net, torch.rand(1, 1, *shape)) if traced else torch.jit.script(net)
        )
        program.save(str(path))
    return path


def batch_of(n, shape=SHAPE):
    return torch.rand(n, 1, *shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def net():
    return trained(Net())


@pytest.fixture(scope="module")
def files(net, tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    sizes = {axis: Dim(name, min=8, max=256) for axis, name in zip((2, 3, 4), "ijk", strict=True)}
    return {
        "exported": exported(net.eval(), folder / "evaluating.pt2"),
        "exported in training": exported(net.train(), folder / "training.pt2"),
        "exported for any batch": exported(
            net.train(), folder / "batch.pt2", batch=2, dynamic={0: Dim("n", min=1, max=64)}
        ),
        "exported for any size": exported(
            net.train(), folder / "size.pt2", batch=2, dynamic={0: Dim("n", min=1, max=64), **sizes}
        ),
        "traced": scripted(net, folder / "traced.pt"),
        "scripted": scripted(net, folder / "scripted.pt", traced=False),
    }


EXPORTED = ["exported", "exported in training", "exported for any batch", "exported for any size"]
ALL = [*EXPORTED, "traced", "scripted"]


@pytest.fixture(scope="module")
def models(files):
    return {kind: load_model(path, "cpu") for kind, path in files.items()}


def direct(net, x):
    with torch.no_grad():
        return net.eval()(x)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("kind", ALL)
def test_outputs_are_those_of_the_original(models, net, kind, n):
    x = batch_of(n)
    torch.testing.assert_close(models[kind].logits(x), direct(net, x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ALL)
def test_weights_are_those_of_the_original(models, net, kind):
    state, wanted = models[kind].module.state_dict(), net.state_dict()
    floats = {k: v for k, v in state.items() if v.is_floating_point()}
    assert floats.keys() == {k for k, v in wanted.items() if v.is_floating_point()}
    assert all(torch.equal(v, wanted[k]) for k, v in floats.items())
    parameters = dict(models[kind].module.named_parameters())
    assert parameters.keys() == dict(net.named_parameters()).keys()


@pytest.mark.parametrize("kind", ALL)
def test_running_a_program_changes_none_of_its_weights(models, kind):
    model = models[kind]
    before = model.weights_hash()
    model.module.train()
    model.logits(batch_of(2))
    assert model.weights_hash() == before


@pytest.mark.parametrize("kind", EXPORTED)
def test_layers_of_an_exported_program_are_those_of_the_original(models, net, kind):
    wanted = find_layers(net, (1, *SHAPE))
    found = models[kind].layers(SHAPE)
    assert found.targets == wanted.targets
    assert found.recommended == wanted.recommended
    assert replace(found.cam_head.features, name="block") == wanted.cam_head.features
    assert found.cam_head.linear == wanted.cam_head.linear
    assert (found.parts, found.ends) == (wanted.parts, wanted.ends)


@pytest.mark.parametrize("kind", ["traced", "scripted"])
def test_layers_of_a_torchscript_program_lie_where_the_original_s_do(models, net, kind):
    wanted = find_layers(net, (1, *SHAPE))
    found = models[kind].layers(SHAPE)
    names = [t.name for t in found.targets]
    assert [n for n in names if n in ("stem.0", "block.conv")] == ["stem.0", "block.conv"]
    assert {(t.channels, t.shape, t.grid) for t in found.targets} <= {
        (t.channels, t.shape, t.grid) for t in wanted.targets
    }
    assert found.cam_head.linear == "head"
    assert found.cam_head.features.grid == wanted.cam_head.features.grid


def scan(shape=SHAPE):
    return cv.Volume(np.random.default_rng(0).random(shape).astype(np.float32), np.eye(4), "scan")


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("layer", ["stem.0", "block.conv"])
def test_grad_cam_is_that_of_the_original(models, net, kind, layer):
    wanted = cv.grad_cam(Model(net, device="cpu"), scan(), 1, layer=layer, relu=False).data
    found = cv.grad_cam(models[kind], scan(), 1, layer=layer, relu=False).data
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ALL)
def test_cam_is_that_of_the_original(models, net, kind):
    wanted = cv.cam(Model(net, device="cpu"), scan(), 2).data
    np.testing.assert_allclose(cv.cam(models[kind], scan(), 2).data, wanted, rtol=1e-5, atol=1e-6)


def halves(shape):
    labels = np.zeros(shape, np.int32)
    labels[shape[0] // 2 :] = 1
    fine = labels * 2
    fine[:, shape[1] // 2 :] += 1
    return cv.Hierarchy.from_levels([fine, labels])


@pytest.fixture(scope="module")
def drops(net):
    options = {"baseline": 0, "score": "logit", "engine": "full"}
    return cv.sensitivity(Model(net, device="cpu"), scan(), halves(SHAPE), 1, **options).data


@pytest.mark.parametrize("kind", ALL)
def test_the_incremental_engine_gives_the_original_s_sensitivity(models, drops, kind):
    options = {"baseline": 0, "score": "logit", "engine": "incremental"}
    found = cv.sensitivity(models[kind], scan(), halves(SHAPE), 1, **options)
    assert found.provenance["engine"]["engine"] == "incremental"
    np.testing.assert_allclose(found.data, drops, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("kind", ["exported", "exported in training", "exported for any batch"])
def test_a_program_of_one_size_says_so(models, kind):
    assert models[kind].input_shape == SHAPE
    assert "12 x 11 x 10 voxels only" in " ".join(models[kind].notes)


def test_a_program_for_any_size_takes_any(models, net):
    model = models["exported for any size"]
    assert model.input_shape is None
    x = batch_of(2, (9, 20, 14))
    torch.testing.assert_close(model.logits(x), direct(net, x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("traced", [True, False])
def test_torchscript_of_one_size_is_given_that(tmp_path, traced):
    net = trained(Flat(32))
    model = load_model(scripted(net, tmp_path / "net.pt", traced, (32, 32, 32)), "cpu")
    assert model.input_shape == (32, 32, 32)
    x = batch_of(3, (32, 32, 32))
    torch.testing.assert_close(model.logits(x), direct(net, x), rtol=1e-6, atol=1e-6)


def test_a_view_to_a_batch_of_one_takes_any_batch(tmp_path):
    net = trained(Flat())
    module, header, _ = read_exported(exported(net.eval(), tmp_path / "net.pt2", (6, 6, 6)))
    assert header["input"] == {"channels": 1, "shape": [6, 6, 6]}
    x = batch_of(3, (6, 6, 6))
    torch.testing.assert_close(direct(module, x), direct(net, x), rtol=1e-6, atol=1e-6)


def test_an_exported_program_is_known_whatever_it_is_called(files, net, tmp_path):
    path = tmp_path / "net.pt"
    path.write_bytes(files["exported"].read_bytes())
    model = load_model(path, "cpu")
    assert model.architecture == "Net"
    torch.testing.assert_close(model.logits(batch_of(1)), direct(net, batch_of(1)))


def test_torchscript_that_branches_on_values_still_scores(tmp_path):
    net = trained(Branching())
    module, (note,) = read_torchscript(scripted(net, tmp_path / "net.pt", traced=False))
    assert isinstance(module, torch.jit.ScriptModule)
    assert "only sensitivity and boxes apply" in note
    model = load_model(tmp_path / "net.pt", "cpu")
    x = batch_of(3)
    torch.testing.assert_close(model.logits(x), direct(net, x), rtol=1e-6, atol=1e-6)
    assert model.target_layers == []
    assert "use sensitivity" in model.layers(SHAPE).no_cam_reason
    wanted = cv.sensitivity(Model(net, device="cpu"), scan(), halves(SHAPE), 1, baseline=0)
    found = cv.sensitivity(model, scan(), halves(SHAPE), 1, baseline=0)
    assert found.provenance["engine"]["text"].startswith("Full passes for each region")
    np.testing.assert_allclose(found.data, wanted.data, rtol=1e-4, atol=1e-6)
