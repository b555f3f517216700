"""Real networks of MONAI, from a state dict to maps, against captum, MONAI and plain loops."""

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.methods.cam import cam
from napari_cnnvis.explain.methods.grad_cam import grad_cam
from napari_cnnvis.explain.methods.sensitivity import sensitivity
from napari_cnnvis.explain.run import explain
from napari_cnnvis.models.checkpoint import load_model
from napari_cnnvis.models.model import Model
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.volume import Volume
from napari_cnnvis.ucm.hierarchy import Hierarchy

GRADIENT = ("grad-cam", "grad-cam++", "hirescam", "layercam")

nets = pytest.importorskip("monai.networks.nets")


@dataclass(frozen=True)
class Network:
    """What a network is called, which cube it takes here, and what is to be found of it."""

    arch: str
    size: int
    layers: tuple[str, ...]
    head: tuple[str, str] | None  # what enters the global average pool, and the linear layer
    mixes: str = ""  # where all positions are mixed, so that full maps are needed


NETWORKS = {
    "DenseNet121": Network(
        "DenseNet121(spatial_dims=3, in_channels=1, out_channels=2)",
        64,
        ("features.denseblock2.denselayer3.layers.conv1", "features.transition2"),
        ("class_layers.relu", "class_layers.out"),
    ),
    "resnet18": Network(
        "resnet18(spatial_dims=3, n_input_channels=1, num_classes=2, conv1_t_stride=2)",
        48,
        ("layer1.1.conv2", "layer3.0"),
        ("layer4", "fc"),
    ),
    "resnet50": Network(
        "resnet50(spatial_dims=3, n_input_channels=1, num_classes=2, conv1_t_stride=2)",
        48,
        ("layer2.1.conv1", "layer3.0"),
        ("layer4", "fc"),
    ),
    "EfficientNetBN": Network(
        "EfficientNetBN('efficientnet-b0', spatial_dims=3, in_channels=1, num_classes=2, "
        "pretrained=False)",
        64,
        ("_blocks.2.3._expand_conv", "_blocks.4.9"),
        ("_conv_head", "_fc"),
        "mul in '_blocks.0.0'",
    ),
    "SEResNet50": Network(
        "SEResNet50(spatial_dims=3, in_channels=1, num_classes=2)",
        48,
        ("layer2.1.conv1.conv", "layer3.0.act"),
        ("layer4", "last_linear"),
        "mul in 'layer1.0.se_layer'",
    ),
    "ViT": Network(
        "ViT(in_channels=1, img_size=(48, 48, 48), patch_size=(12, 12, 12), hidden_size=48, "
        "mlp_dim=96, num_layers=3, num_heads=4, classification=True, num_classes=2, "
        "post_activation=None)",
        48,
        ("patch_embedding.patch_embeddings",),
        None,
        "einsum in 'blocks.0.attn'",
    ),
}
BOXES = [
    ((4, 12), (4, 12), (4, 12)),
    ((20, 26), (18, 26), (20, 28)),
    ((16, 30), (2, 10), (16, 24)),
    ((2, 8), (20, 28), (4, 12)),
    ((24, 30), (4, 12), (2, 9)),
    ((10, 18), (12, 17), (22, 30)),
]


def make(network):
    """The network with random weights, in evaluation mode, its batch norms fit for random scans."""
    torch.manual_seed(0)
    name, _, arguments = network.arch.partition("(")
    net = eval(f"make({arguments}", {"make": getattr(nets, name)})
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm3d)]
    before = [m.momentum for m in norms]
    for norm in norms:
        norm.momentum = 1.0
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.3)
    with torch.no_grad():
        net.train()(torch.rand(2, 1, *[network.size] * 3))
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.running_var.clamp_(min=1e-2)
    # as a Model lays it out: another layout rounds otherwise, which flips a few ReLUs
    return net.eval().to(memory_format=torch.channels_last_3d)


@dataclass(frozen=True, eq=False)
class Case:
    """A network beside the model that was loaded from its file."""

    network: Network
    net: nn.Module
    model: Model
    volume: Volume

    @property
    def x(self):
        return self.model.tensor(self.volume.data)


def volume_for(network):
    shape = (network.size,) * 3
    return Volume(np.random.default_rng(1).random(shape, dtype=np.float32), name="random")


#: these take longest, and are made of what the others are made of
SLOW = ("resnet50", "SEResNet50")


def each_network():
    for name in NETWORKS:
        yield pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW))


@pytest.fixture(scope="module", params=each_network())
def case(request, tmp_path_factory):
    network = NETWORKS[request.param]
    net = make(network)
    path = tmp_path_factory.mktemp("nets") / f"{request.param}.pt"
    torch.save(net.state_dict(), path)
    spec = InputSpec(shape=(network.size,) * 3, intensity="none")
    model = load_model(path, "cpu", f"monai.networks.nets:{network.arch}", input_spec=spec)
    weights = model.weights_hash()
    yield Case(network, net, model, volume_for(network))
    assert model.weights_hash() == weights


def state_of(module):
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    modules = [
        (m.training, getattr(m, "inplace", None), [list(getattr(m, hook)) for hook in hooks])
        for m in module.modules()
    ]
    return modules, [(p.requires_grad, p.grad is None) for p in module.parameters()]


@pytest.fixture(autouse=True)
def untouched(request):
    """Whatever is done with a model, it is left as it was found, here while it is trained."""
    if "case" not in request.fixturenames:
        yield
        return
    module = request.getfixturevalue("case").model.module.train()
    next(module.parameters()).requires_grad_(False)
    before = state_of(module)
    yield
    assert state_of(module) == before


@pytest.fixture(scope="module")
def maps(case):
    """Signed maps of all layers and methods for the second class."""
    return grad_cam(case.model, case.volume, 1, layer="all", relu=False)


def assert_maps_equal(found, expected, tolerance=1e-4, scale=None):
    scale = np.abs(expected).max() if scale is None else scale
    assert scale > 1e-6
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


def test_predictions_are_the_networks(case):
    with torch.no_grad():
        expected = case.net(case.x)
    logits = (expected[0] if isinstance(expected, tuple) else expected)[0]
    np.testing.assert_allclose(case.model.predict(case.volume), logits.softmax(0), atol=1e-5)


def raw_of_monai(method, net, layer, x, target, **more):
    from monai import visualize

    raw = getattr(visualize, method)(
        net, layer, upsampler=lambda size: lambda m: m, postprocessing=lambda m: m, **more
    )
    return raw(x, class_idx=[target] if method == "CAM" else target)[0, 0].detach().numpy()


class FirstOutput(nn.Module):
    """MONAI and captum want networks with one output; the ViT gives its hidden states as well."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        y = self.net(x)
        return y[0] if isinstance(y, tuple) else y


@pytest.mark.filterwarnings("ignore")
def test_grad_cam_and_hires_cam_are_captums_and_monais(case, maps):
    from captum.attr import LayerGradCam, LayerGradientXActivation

    for layer in case.network.layers:
        net = FirstOutput(case.net)
        module = net.net.get_submodule(layer)
        signed = maps[layer].native
        by_captum = LayerGradCam(net, module).attribute(case.x, 1)[0, 0].detach().numpy()
        assert_maps_equal(signed, by_captum)
        product = LayerGradientXActivation(net, module).attribute(case.x, 1).detach()[0].sum(0)
        assert_maps_equal(maps.of("hirescam")[layer].native, product.numpy())
        net = FirstOutput(copy.deepcopy(case.net))  # MONAI does not take its hooks off
        by_monai = raw_of_monai("GradCAM", net, f"net.{layer}", case.x, 1)
        assert_maps_equal(np.maximum(signed, 0), by_monai, scale=np.abs(signed).max())


def test_every_layer_has_maps(case, maps):
    assert set(case.network.layers) <= set(maps)
    for method in GRADIENT:
        native = {name: maps.of(method)._cells(maps.pieces[0], name) for name in maps}
        assert all(np.isfinite(cells).all() for cells in native.values())
        assert all(native[name].shape == layer.shape for name, layer in maps.layers.items())
        assert all(np.abs(native[name]).max() > 0 for name in case.network.layers)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", [0, 1])
def test_cam_is_the_definition_and_monais(case, target):
    if case.network.head is None:
        with pytest.raises(MethodError, match="CAM does not apply; use Grad-CAM on"):
            cam(case.model, case.volume, target)
        return
    name, linear = case.network.head
    found, seen = cam(case.model, case.volume, target).native, []
    net, last = copy.deepcopy(case.net), case.net.get_submodule(linear)
    with torch.no_grad():
        handle = net.get_submodule(name).register_forward_hook(lambda *x: seen.append(x[2].clone()))
        net(case.x)
        handle.remove()
        features = seen[0]
        if name == "_conv_head":  # what follows is called more than once
            features = nn.functional.silu(net._bn1(features))
        expected = torch.einsum("k,kabc->abc", last.weight[target], features[0]).numpy()
    assert_maps_equal(found, expected)
    if name != "_conv_head":
        by_monai = raw_of_monai("CAM", net, name, case.x, target, fc_layers=linear)
        assert_maps_equal(found + last.bias[target].item(), by_monai)


@pytest.fixture(scope="module")
def occluded(case):
    """Labels of six boxes, and the logits without and with each of them set to 0."""
    labels = np.zeros(case.volume.shape, int)
    for number, box in enumerate(BOXES, 1):
        labels[tuple(slice(*b) for b in box)] = number
    inputs = [case.x] + [case.x * torch.from_numpy(labels != n) for n in range(1, 7)]
    with torch.no_grad():
        logits = torch.cat([FirstOutput(case.net)(x.float()) for x in inputs]).double()
    return labels, logits


def test_sensitivity_is_a_plain_loop(case, occluded, record_property):
    labels, logits = occluded
    hierarchy = Hierarchy.from_levels([labels], background=0)
    drops = (logits[0] - logits[1:])[:, 1].numpy()
    expected = np.concatenate([[0], drops])[labels]
    found = sensitivity(case.model, case.volume, hierarchy, 1, baseline=0, score="logit")
    np.testing.assert_allclose(found.data, expected, rtol=0, atol=1e-4)
    assert np.abs(expected).max() > 3e-4
    engine = found.provenance["engine"]
    record_property("engine", engine["text"])
    if engine["engine"] == "incremental":
        assert engine["multiply_adds"] < 0.8 * engine["full_multiply_adds"]
        assert engine["text"].startswith("Only what a region can change was computed")
        in_part = "Part of the network is computed in full" in engine["text"]
        assert in_part == bool(case.network.mixes)
    else:
        assert engine["text"].startswith("Full passes for each region: computing only what changes")
        assert "would not be cheaper, because " in engine["text"]
        how = {"score": "logit", "engine": "incremental"}
        found = sensitivity(case.model, case.volume, hierarchy, 1, baseline=0, **how)
        assert found.provenance["engine"]["engine"] == "incremental"
        np.testing.assert_allclose(found.data, expected, rtol=0, atol=1e-4)
    if case.network.mixes:
        assert f"{case.network.mixes} mixes all positions" in engine["text"]


def test_tokens_are_maps_and_heads_of_attention_are_not():
    network = NETWORKS["ViT"]
    model = Model(make(network), None, InputSpec(shape=(network.size,) * 3), "cpu")
    layers = model.layers()
    assert {target.shape for target in layers.targets} == {(4, 4, 4)}
    assert [name for name in model.target_layers if "attn" in name] == [
        "blocks.0.attn",
        "blocks.1.attn",
    ]
    assert layers.recommended == "blocks.1"  # of the third only the class token is read
    assert "blocks.2" in layers.without_effect
    assert not any("softmax" in name or "mat" in name for name in layers.others)


def test_a_video_network_of_torchvision():
    models = pytest.importorskip("torchvision.models.video")
    torch.manual_seed(0)
    net = models.r3d_18(num_classes=2).eval()
    spec = InputSpec(shape=(16, 32, 32), channels=3, intensity="none")
    model = Model(net, None, spec, "cpu")
    rng = np.random.default_rng(0)
    scan = [Volume(rng.random((16, 32, 32)), name=f"c{n}") for n in range(3)]
    cells = cam(model, scan, 0).native / model.layers().cam_head.features.shape[0]
    assert np.isfinite(cells).all()
    labels = np.indices((16, 32, 32))[0] // 4
    hierarchy = Hierarchy.from_levels([labels])
    fast, full = (
        sensitivity(model, scan, hierarchy, 0, baseline=0, score="logit", engine=engine).data
        for engine in ("incremental", "full")
    )
    np.testing.assert_allclose(fast, full, atol=1e-4)


# the same networks as programs

SMALL = Network(
    "resnet10(spatial_dims=3, n_input_channels=1, num_classes=2, widen_factor=0.25)",
    32,
    ("layer1.0.conv2", "layer2.0"),
    ("layer4", "fc"),
)
PROGRAMS = [pytest.param(SMALL, id="resnet10")] + [
    pytest.param(network, id=name, marks=pytest.mark.slow) for name, network in NETWORKS.items()
]


def exported(net, x, path):
    torch.export.save(torch.export.export(net, (x,), strict=False), path)


def scripted(net, x, path):
    torch.jit.trace(net, x, strict=False).save(str(path))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("write", "suffix"), [(exported, ".pt2"), (scripted, ".pt")])
@pytest.mark.parametrize("network", PROGRAMS)
def test_programs_are_explained_as_their_networks(tmp_path, network, write, suffix):
    net, volume, path = make(network), volume_for(network), tmp_path / f"net{suffix}"
    write(net, torch.from_numpy(volume.data)[None, None], path)
    spec = InputSpec(shape=volume.shape, intensity="none")
    original = Model(net, None, spec, "cpu")
    model = load_model(path, "cpu", input_spec=spec)
    np.testing.assert_allclose(model.predict(volume), original.predict(volume), atol=1e-5)
    layer = next((name for name in network.layers if name in model.target_layers), None)
    if layer is None:
        assert "only sensitivity and boxes apply" in " ".join(model.notes)
        assert network is NETWORKS["ViT"]
        assert write is scripted
    for method in ("grad-cam", "layercam") * (layer is not None):
        how = {"target": 1, "layer": layer, "relu": False}
        expected = explain(original, volume, method, **how)
        assert_maps_equal(explain(model, volume, method, **how).native, expected.native)
    if network is NETWORKS["EfficientNetBN"] and write is exported:
        # the activation that enters the pool runs many times, so that it has no name
        with pytest.raises(MethodError, match="CAM does not apply; use Grad-CAM"):
            cam(model, volume, 1)
    elif network.head is not None:
        assert_maps_equal(cam(model, volume, 1).native, cam(original, volume, 1).native)
    labels = np.zeros(volume.shape, int)
    for number, box in enumerate(BOXES, 1):
        labels[tuple(slice(*b) for b in box)] = number
    hierarchy = Hierarchy.from_levels([labels], background=0)
    how = {"target": 1, "baseline": 0, "score": "logit"}
    expected = sensitivity(original, volume, hierarchy, **how, engine="full")
    found = sensitivity(model, volume, hierarchy, **how)
    np.testing.assert_allclose(found.data, expected.data, rtol=0, atol=1e-4)
