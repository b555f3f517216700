import numpy as np
import pytest
import torch
from torch import nn

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.methods.cam import cam
from napari_cnnvis.models.checkpoint import load_model
from napari_cnnvis.models.model import Model
from napari_cnnvis.models.networks.vox import VoxVGG
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.volume import Volume


def logits_of(model, volume):
    return model.logits(model.tensor(model.conform(volume).data))[0].numpy()


@pytest.mark.parametrize("target", [0, 1])
def test_mean_of_cells_plus_bias_is_the_logit(cam_model, volume_of, target):
    volume = volume_of((24, 22, 20))
    attribution = cam(cam_model, volume, target)
    logit = attribution.native.mean() + cam_model.module.prob.bias[target].item()
    assert attribution.native.shape == (12, 11, 10)
    assert logit == pytest.approx(logits_of(cam_model, volume)[target], rel=1e-5)


def test_equals_a_weighted_sum_written_by_hand(wrap, gap_net, volume_of):
    net = gap_net([nn.Conv3d(1, 3, 3)], 3)
    volume = volume_of((6, 7, 8))
    x = torch.from_numpy(volume.data)[None, None]
    with torch.no_grad():
        maps = net[0](x)[0].numpy()
        expected = sum(w * m for w, m in zip(net[3].weight[1].numpy(), maps, strict=True))
    assert (expected < 0).any()
    np.testing.assert_allclose(cam(wrap(net), volume, 1).native, expected, rtol=1e-5, atol=1e-7)


def test_linear_layer_without_bias(wrap, volume_of):
    layers = [nn.Conv3d(1, 3, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 2, False)]
    model, volume = wrap(nn.Sequential(*layers)), volume_of((7, 7, 7))
    logit = logits_of(model, volume)[0]
    assert cam(model, volume, 0).native.mean() == pytest.approx(logit, rel=1e-4)


def test_class_by_name_is_class_by_index(cam_model, volume_of):
    volume = volume_of((12, 12, 12))
    by_name, by_index = cam(cam_model, volume, "control"), cam(cam_model, volume, 1)
    np.testing.assert_array_equal(by_name.data, by_index.data)
    assert by_name.provenance["class"] == 1
    assert by_name.provenance["class_name"] == "control"


def test_map_lies_on_the_scan(cam_model, volume_of):
    volume = volume_of((13, 12, 14))
    attribution = cam(cam_model, volume, 0)
    assert attribution.data.shape == volume.shape
    assert attribution.data.dtype == np.float32
    np.testing.assert_array_equal(attribution.affine, volume.affine)


@pytest.mark.parametrize("voxel", [(3, 3, 3), (4, 9, 6), (7, 8, 10)])
def test_bright_voxel_peaks_where_it_is(wrap, gap_net, delta, voxel):
    net = gap_net([delta(7)], 1)
    nn.init.constant_(net[3].weight, 2.0)
    data = np.zeros((12, 13, 14), np.float32)
    data[voxel] = 1
    model = wrap(net)
    found = cam(model, Volume(data), 0, alignment="receptive field").data
    np.testing.assert_allclose(found, 2 * data, atol=1e-6)


def test_stretched_map_equals_torch_upsampling(cam_model, volume_of):
    volume = volume_of((13, 12, 14))
    attribution = cam(cam_model, volume, 0)
    expected = nn.functional.interpolate(
        torch.from_numpy(attribution.native)[None, None],
        volume.shape,
        mode="trilinear",
        align_corners=False,
    )[0, 0]
    scale = np.abs(attribution.native).max()
    np.testing.assert_allclose(attribution.data, expected.numpy(), atol=1e-5 * scale)


def test_nothing_where_the_model_saw_nothing(gap_net, volume_of):
    model = Model(gap_net([nn.Conv3d(1, 3, 3)], 3), None, InputSpec(shape=(6, 6, 6)), "cpu")
    found = cam(model, volume_of((10, 10, 10)), 0).data
    assert (found[2:8, 2:8, 2:8] != 0).all()
    found[2:8, 2:8, 2:8] = 0
    assert not found.any()


def test_dense_head_is_refused_with_the_remedy(wrap, volume_of):
    model = wrap(VoxVGG(), (110, 110, 110))
    with pytest.raises(
        MethodError, match=r"dense1.*CAM does not apply; use Grad-CAM on (conv|relu)"
    ):
        cam(model, volume_of((8, 8, 8)), 0)


class SquaredBeforePool(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 3, 3)
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.prob = nn.Linear(3, 2)

    def forward(self, x):
        return self.prob(self.pool(3 + 5 * self.conv(x) ** 2).flatten(1))


def test_head_that_only_looks_like_a_cam_head_is_refused(wrap, volume_of):
    with pytest.raises(MethodError, match=r"more than a global average pool \(add, pow\)"):
        cam(wrap(SquaredBeforePool()), volume_of((8, 8, 8)), 0)


@pytest.mark.parametrize("target", [2, -1, "unknown"])
def test_unknown_class(cam_model, volume_of, target):
    with pytest.raises(MethodError, match=r"0 \(patient\), 1 \(control\)"):
        cam(cam_model, volume_of((8, 8, 8)), target)


def test_unknown_alignment(cam_model, volume_of):
    with pytest.raises(MethodError, match="stretch, receptive field"):
        cam(cam_model, volume_of((8, 8, 8)), 0, alignment="middle")


def test_model_is_left_as_found(wrap, busy_net, state_of, volume_of):
    model = wrap(busy_net)
    before = state_of(busy_net)
    cam(model, volume_of((9, 9, 9)), 0)
    assert state_of(busy_net) == before


def test_reference_weights(shared_data, volume_of):
    model = load_model(shared_data / "reference_resnet_cam.npz", device="cpu")
    volume = volume_of((24, 24, 24))
    native = cam(model, volume, 0).native
    logit = native.mean() + model.module.prob.bias[0].item()
    assert logit == pytest.approx(logits_of(model, volume)[0], rel=1e-4)


def test_against_another_class_is_the_difference_of_both_maps(cam_model, volume_of):
    volume = volume_of((12, 12, 12))
    difference = cam(cam_model, volume, 0).native - cam(cam_model, volume, 1).native
    against = cam(cam_model, volume, 0, against="control")
    np.testing.assert_allclose(against.native, difference, rtol=1e-5, atol=1e-6)
    assert against.provenance["against"] == "control"
    with pytest.raises(MethodError, match="against itself"):
        cam(cam_model, volume, 1, against="control")
    with pytest.raises(MethodError, match="nobody"):
        cam(cam_model, volume, 1, against="nobody")
