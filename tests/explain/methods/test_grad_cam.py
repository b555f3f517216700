import copy

import numpy as np
import pytest
import torch
from torch import nn

from napari_cnnvis.errors import ComputeError, MethodError
from napari_cnnvis.explain.methods.cam import cam
from napari_cnnvis.explain.methods.grad_cam import grad_cam
from napari_cnnvis.models.checkpoint import load_model
from napari_cnnvis.scan.volume import Volume


def assert_maps_equal(found, expected, tolerance=1e-5, scale=None):
    scale = np.abs(expected).max() if scale is None else scale
    assert scale > 0
    np.testing.assert_allclose(found, expected, atol=tolerance * scale)


@pytest.mark.parametrize("target", [0, 1])
def test_before_a_gap_head_it_is_cam_per_position(cam_model, volume_of, target):
    volume = volume_of((24, 24, 24))
    gradient_map = grad_cam(cam_model, volume, target, layer="relu4", relu=False)
    expected = cam(cam_model, volume, target).native / 12**3
    assert (expected < 0).any()
    assert_maps_equal(gradient_map.native, expected)


def test_before_a_gap_head_it_is_cam_per_position_with_the_reference_weights(
    shared_data, volume_of
):
    model = load_model(shared_data / "reference_resnet_cam.npz", device="cpu")
    volume = volume_of((64, 64, 64))
    gradient_map = grad_cam(model, volume, 0, layer="relu4", relu=False)
    assert_maps_equal(gradient_map.native, cam(model, volume, 0).native / 32**3)


def test_relu_keeps_what_supports_the_class(cam_model, volume_of):
    volume = volume_of((16, 16, 16))
    signed = grad_cam(cam_model, volume, 0, layer="conv1b", relu=False).native
    assert (signed < 0).any()
    np.testing.assert_array_equal(
        grad_cam(cam_model, volume, 0, layer="conv1b").native, np.maximum(signed, 0)
    )


def test_all_layers_at_once_equal_single_layers(cam_model, volume_of):
    volume = volume_of((8, 8, 8))
    together = grad_cam(cam_model, volume, 1, layer="all", relu=False)
    for name in cam_model.target_layers:
        alone = grad_cam(cam_model, volume, 1, layer=name, relu=False)
        assert_maps_equal(together[name].data, alone.data)
        assert_maps_equal(together[name].native, alone.native)


def test_recommended_layer_is_the_default(cam_model, volume_of):
    attribution = grad_cam(cam_model, volume_of((16, 16, 16)), 0)
    layers = cam_model.layers((16, 16, 16))
    assert attribution.provenance["layer"] == layers.recommended


# two positions, two channels: A = (x, -2x), logits = W A
W = np.array([[1.0, -2.0, 0.5, 1.0], [0.3, 0.2, -1.0, 2.0], [2.0, 1.0, 0.0, -1.0]])


@pytest.fixture
def solvable(wrap):
    net = nn.Sequential(nn.Conv3d(1, 2, 1, bias=False), nn.Flatten(), nn.Linear(4, 3, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, -2.0]).view(2, 1, 1, 1, 1))
        net[2].weight.copy_(torch.from_numpy(W))
    return wrap(net, (2, 1, 1))


@pytest.mark.parametrize("target", [0, 1, 2])
@pytest.mark.parametrize("score", ["logit", "log_prob", "probability"])
def test_score_is_differentiated_as_on_paper(solvable, score, target):
    x = np.array([0.4, 0.9])
    activations = np.array([x, -2 * x])
    logits = W @ activations.ravel()
    p = np.exp(logits) / np.exp(logits).sum()
    log_prob = W[target] - p @ W
    slope = {"logit": W[target], "log_prob": log_prob, "probability": p[target] * log_prob}[score]
    expected = slope.reshape(2, 2).mean(1) @ activations
    volume = Volume(x.reshape(2, 1, 1).astype(np.float32))
    found = grad_cam(solvable, volume, target, layer="0", relu=False, score=score).native
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-5)


def captum_map(net, layer, x, target, relu):
    from captum.attr import LayerGradCam

    found = LayerGradCam(net, net.get_submodule(layer)).attribute(x, target, relu_attributions=relu)
    return found[0, 0].detach().numpy()


def monai_map(net, layer, x, target):
    from monai.visualize import GradCAM

    raw = GradCAM(net, layer, upsampler=lambda size: lambda m: m, postprocessing=lambda m: m)
    return raw(x, class_idx=target)[0, 0].detach().numpy()


def assert_others_agree(model, volume, layer, target):
    x = torch.from_numpy(volume.data)[None, None]
    net = copy.deepcopy(model.module).eval()
    signed = grad_cam(model, volume, target, layer=layer, relu=False).native
    assert_maps_equal(signed, captum_map(net, layer, x, target, relu=False), 1e-4)
    rectified, scale = grad_cam(model, volume, target, layer=layer).native, np.abs(signed).max()
    assert_maps_equal(rectified, captum_map(net, layer, x, target, relu=True), 1e-4, scale)
    assert_maps_equal(rectified, monai_map(net, layer, x, target), 1e-4, scale)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layer", ["conv1a", "voxres2_conv2", "relu4"])
def test_captum_and_monai_agree(cam_model, volume_of, layer):
    assert_others_agree(cam_model, volume_of((10, 10, 10), seed=4), layer, 1)


@pytest.fixture(scope="module")
def monai_nets():
    from monai.networks.nets import DenseNet, resnet18

    torch.manual_seed(3)
    return {
        "densenet": DenseNet(3, 1, 2, init_features=8, growth_rate=8, block_config=(2, 3, 2)),
        "resnet18": resnet18(spatial_dims=3, n_input_channels=1, num_classes=2, widen_factor=0.25),
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("densenet", "features.denseblock2.denselayer3.layers.conv1"),
        ("densenet", "features.transition1"),
        ("resnet18", "layer1.1.conv2"),
        ("resnet18", "layer2.0"),
    ],
)
def test_captum_and_monai_agree_on_networks_with_in_place_relu(
    monai_nets, wrap, volume_of, name, layer
):
    model = wrap(monai_nets[name], (16, 16, 16))
    assert any(getattr(m, "inplace", False) for m in model.module.modules())
    assert_others_agree(model, volume_of((16, 16, 16)), layer, 1)


class TwoConvolutions(nn.Module):
    def __init__(self, inplace):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv3d(1, 4, 3), nn.Conv3d(4, 4, 3)
        self.prob = nn.Linear(4, 2)
        self._inplace = inplace

    def forward(self, x):
        x = nn.functional.relu(self.a(x), inplace=self._inplace)
        x = nn.functional.relu(self.b(x), inplace=self._inplace)
        return self.prob(x.mean((2, 3, 4)))


@pytest.mark.parametrize("layer", ["a", "b"])
def test_functional_in_place_relu_changes_nothing(wrap, volume_of, layer):
    volume = volume_of((9, 9, 9))
    plain, overwriting = wrap(TwoConvolutions(False)), wrap(TwoConvolutions(True))
    expected = grad_cam(plain, volume, 0, layer=layer, relu=False)
    assert_maps_equal(
        grad_cam(overwriting, volume, 0, layer=layer, relu=False).native, expected.native
    )
    together = grad_cam(overwriting, volume, 0, layer="all", relu=False)
    assert_maps_equal(together[layer].native, expected.native)


def test_dropout_is_off(wrap, busy_net, volume_of):
    model, volume = wrap(busy_net), volume_of((9, 9, 9))
    while_training = grad_cam(model, volume, 0, layer="0", relu=False)
    busy_net.eval()
    np.testing.assert_array_equal(
        while_training.native, grad_cam(model, volume, 0, layer="0", relu=False).native
    )


@pytest.mark.parametrize("layer", ["0", "4", "all"])
def test_model_is_left_as_found(wrap, busy_net, state_of, volume_of, layer):
    model = wrap(busy_net)
    before = state_of(busy_net)
    grad_cam(model, volume_of((9, 9, 9)), 0, layer=layer)
    assert state_of(busy_net) == before


class FailsOnRealInput(nn.Module):
    def forward(self, x):
        if x.device.type != "meta":
            raise RuntimeError("broken")
        return x


def test_model_is_left_as_found_after_a_failure(wrap, busy_net, state_of, volume_of):
    busy_net.append(FailsOnRealInput())
    model = wrap(busy_net)
    before = state_of(busy_net)
    with pytest.raises(ComputeError, match="broken"):
        grad_cam(model, volume_of((9, 9, 9)), 0, layer="0")
    assert state_of(busy_net) == before


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_callers_gradient_mode_does_not_matter(cam_model, volume_of, mode):
    volume = volume_of((12, 12, 12))
    expected = grad_cam(cam_model, volume, 0, layer="conv1c")
    with mode():
        found = grad_cam(cam_model, volume, 0, layer="conv1c")
    np.testing.assert_array_equal(found.native, expected.native)


@pytest.mark.parametrize(("size", "stride"), [(5, 1), (3, 2), (7, 3)])
@pytest.mark.parametrize("cell", [(0, 0, 0), (1, 2, 1)])
def test_bright_voxel_peaks_where_it_is(wrap, gap_net, delta, size, stride, cell):
    net = gap_net([delta(size, stride)], 1)
    nn.init.ones_(net[3].weight)
    voxel = tuple(size // 2 + stride * c for c in cell)
    data = np.zeros((16, 17, 18), np.float32)
    data[voxel] = 1
    found = grad_cam(wrap(net), Volume(data), 0, layer="0", alignment="receptive field").data
    assert np.unravel_index(found.argmax(), found.shape) == voxel
    assert (found == found.max()).sum() == 1


def test_only_receptive_fields_put_unpadded_layers_where_they_look(wrap, gap_net, delta):
    net = gap_net([delta(5), nn.MaxPool3d(2), delta(3)], 1)
    nn.init.ones_(net[5].weight)
    data = np.zeros((20, 20, 20), np.float32)
    data[6:8, 8:10, 10:12] = 1
    model, scan = wrap(net), Volume(data)
    found = grad_cam(model, scan, 0, layer="2", alignment="receptive field").data
    peak = np.argwhere(found > 0.999 * found.max())
    np.testing.assert_array_equal(peak, np.argwhere(data))
    stretched = grad_cam(model, scan, 0, layer="2", alignment="stretch").data
    assert stretched.argmax() not in np.flatnonzero(data)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"layer": "conv99"}, "no layer 'conv99'; it has conv1a"),
        ({"score": "loss"}, "logit, log_prob, probability"),
        ({"alignment": "middle"}, "stretch, receptive field"),
        ({"target": "unknown"}, "no class 'unknown'"),
    ],
)
def test_wrong_options(cam_model, volume_of, wrong, text):
    with pytest.raises(MethodError, match=text):
        grad_cam(cam_model, volume_of((8, 8, 8)), **{"target": 0, **wrong})


def test_network_without_layers(linear_model, volume_of):
    with pytest.raises(MethodError):
        grad_cam(linear_model(np.ones((2, 4, 4, 4))), volume_of((4, 4, 4)), 0)
