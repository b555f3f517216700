"""Grad-CAM++, HiResCAM and LayerCAM, and what Grad-CAM has in common with them."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.methods.cam import cam
from napari_cnnvis.explain.methods.grad_cam import grad_cam
from napari_cnnvis.explain.methods.grad_cam_plus_plus import grad_cam_plus_plus
from napari_cnnvis.explain.methods.hires_cam import hires_cam
from napari_cnnvis.explain.methods.layer_cam import layer_cam
from napari_cnnvis.explain.registry import methods
from napari_cnnvis.explain.run import explain

GRADIENT = ("grad-cam", "grad-cam++", "hirescam", "layercam")
METHODS = {key: method.title for key, method in methods().items()}

FUNCTIONS = {
    "grad-cam": grad_cam,
    "grad-cam++": grad_cam_plus_plus,
    "hirescam": hires_cam,
    "layercam": layer_cam,
}


def by_cell(a, g):
    """The four definitions for one channel, cell by cell, in double precision."""
    a, g = a.astype(float), g.astype(float)
    weight = 0.0
    for g_cell in g.ravel():
        if g_cell > 0:
            weight += g_cell**2 / (2 * g_cell**2 + a.sum() * g_cell**3) * g_cell
    return {
        "grad-cam": g.mean() * a,
        "grad-cam++": weight * a,
        "hirescam": g * a,
        "layercam": np.where(g > 0, g, 0) * a,
    }


def definition(method, activations, gradients):
    channels = zip(activations, gradients, strict=True)
    return sum(by_cell(a, g)[method] for a, g in channels)


def assert_maps_equal(found, expected, tolerance=1e-5, may_be_0=False):
    scale = np.abs(expected).max()
    assert may_be_0 or scale > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


def conv_net(seed, channels=3, shape=(5, 6, 5)):
    """Layer "1" behind a convolution, before a part that is not linear."""
    torch.manual_seed(seed)
    features = nn.Sequential(nn.Conv3d(1, channels, 3), nn.ReLU())
    with torch.no_grad():
        n = features(torch.zeros(1, 1, *shape)).numel()
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(n, 8), nn.ELU(), nn.Linear(8, 3))


@pytest.mark.parametrize("method", GRADIENT)
@settings(max_examples=15)
@given(
    seed=st.integers(0, 999),
    target=st.integers(0, 2),
    score=st.sampled_from(["logit", "log_prob", "probability"]),
)
def test_equals_the_definition(wrap, volume_of, method, seed, target, score):
    net, volume = conv_net(seed), volume_of((5, 6, 5), seed)
    with torch.no_grad():
        a = net[:2](torch.from_numpy(volume.data)[None, None])
    a.requires_grad_()
    logits = net[2:](a)[0]
    value = {"logit": logits, "log_prob": logits.log_softmax(0), "probability": logits.softmax(0)}
    (g,) = torch.autograd.grad(value[score][target], a)
    expected = definition(method, a[0].detach().numpy(), g[0].numpy())
    found = FUNCTIONS[method](
        wrap(net, (5, 6, 5)), volume, target, layer="1", relu=False, score=score
    )
    only_positive = method in ("grad-cam++", "layercam")  # nothing is left where none is
    assert_maps_equal(found.native, expected, 1e-4, may_be_0=only_positive)


@settings(max_examples=10)
@given(seed=st.integers(0, 999))
def test_weights_of_grad_cam_plus_plus_are_its_higher_derivatives(wrap, volume_of, seed):
    """Eq. 19 of the paper with derivatives of exp(score) by autograd, linear after the layer."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv3d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 8, 2)).double()
    volume = volume_of((3, 3, 3), seed)
    with torch.no_grad():
        a = net[:2](torch.from_numpy(volume.data)[None, None].double())
    a.requires_grad_()
    y = net[2:](a)[0, 1].exp()
    (first,) = torch.autograd.grad(y, a, create_graph=True)
    expected = 0
    for k in range(2):
        weight = 0
        for place in np.ndindex(2, 2, 2):
            slope = first[(0, k, *place)]
            (second,) = torch.autograd.grad(slope, a, create_graph=True)
            second = second[(0, k, *place)]
            third = torch.autograd.grad(second, a, retain_graph=True)[0][(0, k, *place)]
            share = second / (2 * second + a[0, k].sum() * third)
            weight += share * slope.relu()
        expected = expected + weight * a[0, k]
    expected = (expected / y).detach().numpy()
    found = grad_cam_plus_plus(wrap(net.float(), (3, 3, 3)), volume, 1, layer="1", relu=False)
    assert_maps_equal(found.native, expected, 1e-4, may_be_0=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", [0, 1])
def test_grad_cam_plus_plus_is_monais_divided_by_exp_score(wrap, volume_of, gap_net, target):
    # before a global average pool, where the gradient is the same in all cells; elsewhere
    # MONAI takes each cell's gradient with it into the sum over A, unlike the paper
    from monai.visualize import GradCAMpp

    torch.manual_seed(0)
    net = gap_net([nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Conv3d(4, 5, 3), nn.ReLU()], 5).eval()
    with torch.no_grad():
        net[-1].weight *= 500  # MONAI adds 1e-7 to what it divides by
    volume = volume_of((7, 8, 7))
    x = torch.from_numpy(volume.data)[None, None]
    raw = GradCAMpp(copy.deepcopy(net), "3", lambda size: lambda m: m, lambda m: m)
    expected = raw(x, class_idx=target)[0, 0].detach().double().numpy()
    score = net(x)[0, target].item()
    found = grad_cam_plus_plus(wrap(net), volume, target, layer="3").native
    assert_maps_equal(found, expected / np.exp(score), 1e-4)


def captum_layer(net, layer, x, target):
    from captum.attr import LayerActivation, LayerGradientXActivation

    module = net.get_submodule(layer)
    product = LayerGradientXActivation(net, module).attribute(x, target)
    return product.detach()[0], LayerActivation(net, module).attribute(x).detach()[0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layer", ["conv1a", "conv1b", "voxres2_conv2", "relu4"])
def test_hires_cam_and_layer_cam_agree_with_captum(cam_model, volume_of, layer):
    volume = volume_of((10, 10, 10), seed=4)
    x = torch.from_numpy(volume.data)[None, None]
    net = copy.deepcopy(cam_model.module).eval()
    product, activations = captum_layer(net, layer, x, 1)
    hires = hires_cam(cam_model, volume, 1, layer=layer, relu=False).native
    assert_maps_equal(hires, product.sum(0).numpy())
    # where A is not 0, the sign of the gradient is that of the product by that of A
    kept = torch.where(product.sign() * activations.sign() > 0, product, 0)
    found = layer_cam(cam_model, volume, 1, layer=layer, relu=False).native
    assert_maps_equal(found, kept.sum(0).numpy())


@pytest.mark.parametrize("target", [0, 1])
def test_before_a_gap_head_hires_cam_is_grad_cam_is_cam_per_cell(cam_model, volume_of, target):
    volume = volume_of((20, 18, 16))
    per_cell = cam(cam_model, volume, target).native / (10 * 9 * 8)
    for method in ("grad-cam", "hirescam"):
        found = explain(cam_model, volume, method, target=target, layer="relu4", relu=False)
        assert_maps_equal(found.native, per_cell)


@pytest.mark.parametrize("target", [0, 1])
def test_signed_hires_cam_sums_to_the_score_without_what_the_biases_give(
    wrap, volume_of, gap_net, target
):
    torch.manual_seed(target)
    linear = [nn.Conv3d(4, 3, 3, stride=2), nn.AvgPool3d(2)]
    model = wrap(gap_net([nn.Conv3d(1, 4, 3), nn.ReLU(), *linear], 3), (12, 12, 12))
    volume = volume_of((12, 12, 12))
    with torch.no_grad():
        score = model.module(torch.from_numpy(volume.data)[None, None])[0, target].item()
        biases = model.module[2:](torch.zeros(1, 4, 10, 10, 10))[0, target].item()
    found = hires_cam(model, volume, target, layer="1", relu=False).native.sum()
    assert found == pytest.approx(score - biases, rel=1e-4)
    averaged = grad_cam(model, volume, target, layer="1", relu=False).native.sum()
    assert averaged != pytest.approx(score - biases, rel=1e-2)


@settings(max_examples=20)
@given(seed=st.integers(0, 999), target=st.integers(0, 2))
def test_layer_cam_and_grad_cam_plus_plus_of_a_relu_are_never_negative(
    wrap, volume_of, seed, target
):
    model, volume = wrap(conv_net(seed), (5, 6, 5)), volume_of((5, 6, 5), seed)
    assert layer_cam(model, volume, target, layer="1", relu=False).native.min() >= 0
    # the denominator of Grad-CAM++ is above 0 as well, since a ReLU's outputs add up to 0 or more
    assert grad_cam_plus_plus(model, volume, target, layer="1", relu=False).native.min() >= 0


@pytest.mark.parametrize("method", GRADIENT)
def test_relu_keeps_what_supports_the_class(cam_model, volume_of, method):
    volume = volume_of((12, 12, 12))
    signed = FUNCTIONS[method](cam_model, volume, 0, layer="conv1b", relu=False).native
    assert (signed < 0).any()
    rectified = FUNCTIONS[method](cam_model, volume, 0, layer="conv1b").native
    np.testing.assert_array_equal(rectified, np.maximum(signed, 0))


def test_gradients_too_small_for_their_squares_count(wrap, volume_of, gap_net):
    torch.manual_seed(0)
    net = gap_net([nn.Conv3d(1, 4, 3), nn.ReLU()], 4)
    model, volume = wrap(net), volume_of((6, 6, 6))
    with torch.no_grad():
        net[-1].weight *= 1e-4
    expected = grad_cam_plus_plus(model, volume, 0, layer="1").native
    with torch.no_grad():
        net[-1].weight *= 1e-24
    found = grad_cam_plus_plus(model, volume, 0, layer="1").native
    assert_maps_equal(found * 1e24, expected, 1e-3)


@pytest.mark.parametrize("method", GRADIENT)
def test_channels_that_the_score_ignores_give_zeros(wrap, volume_of, gap_net, method):
    net = gap_net([nn.Conv3d(1, 3, 3), nn.ReLU()], 3)
    nn.init.zeros_(net[-1].weight)
    found = FUNCTIONS[method](wrap(net), volume_of((6, 6, 6)), 0, layer="1", relu=False)
    np.testing.assert_array_equal(found.native, 0)
    np.testing.assert_array_equal(found.data, 0)


@pytest.mark.parametrize("method", GRADIENT)
@pytest.mark.parametrize("relu", [True, False])
def test_all_layers_at_once_equal_single_layers(cam_model, volume_of, method, relu):
    volume = volume_of((8, 8, 8))
    # one pass of Grad-CAM holds the maps of the others as well
    together = grad_cam(cam_model, volume, 1, layer="all").of(method, relu)
    assert list(together) == cam_model.target_layers
    for name in cam_model.target_layers[::3]:
        alone = FUNCTIONS[method](cam_model, volume, 1, layer=name, relu=relu)
        assert_maps_equal(together[name].native, alone.native, may_be_0=relu)
        assert_maps_equal(together[name].data, alone.data, may_be_0=relu)
        assert together[name].name == alone.name == f"{METHODS[method]} · control · {name}"
        for key in ("method", "relu", "layer", "alignment", "score"):
            assert together[name].provenance[key] == alone.provenance[key]


def test_of_changes_only_what_it_is_told_to(cam_model, volume_of):
    maps = layer_cam(cam_model, volume_of((8, 8, 8)), 0, layer="all", relu=False)
    assert maps.of().provenance == maps.provenance
    other = maps.of(alignment="receptive field")
    assert (other.method, other.relu, other.alignment) == ("layercam", False, "receptive field")
    other = other.of("hirescam")
    assert (other.method, other.relu, other.alignment) == ("hirescam", False, "receptive field")
    assert other.of(relu=True).provenance["relu"]
    assert maps.method == "layercam"


def test_of_refuses_a_method_of_another_pass(cam_model, volume_of, plain):
    maps = grad_cam(cam_model, volume_of((8, 8, 8)), 0, layer="all")
    with pytest.raises(MethodError, match="grad-cam, grad-cam\\+\\+, hirescam, layercam") as error:
        maps.of("cam")
    plain(error.value)


@pytest.mark.parametrize("method", GRADIENT)
def test_network_without_layers(linear_model, volume_of, method, plain):
    model = linear_model(np.ones((2, 4, 4, 4)))
    with pytest.raises(MethodError, match="does not apply; use sensitivity") as error:
        FUNCTIONS[method](model, volume_of((4, 4, 4)), 0)
    plain(error.value, METHODS[method])


@pytest.mark.parametrize("method", GRADIENT)
def test_model_is_left_as_found(wrap, busy_net, state_of, volume_of, method):
    model = wrap(busy_net)
    before = state_of(busy_net)
    FUNCTIONS[method](model, volume_of((9, 9, 9)), 0, layer="all")
    assert state_of(busy_net) == before
