"""What happens to weights besides training steps: LSUV, foldable normalisation, calibration, last layer."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from napari_cnnvis.models.networks.vox import VoxResNetGAP
from napari_cnnvis.training.weights.calibrate import Calibration
from napari_cnnvis.training.weights.initialise import initialise
from napari_cnnvis.training.weights.last_layer import Features, output_layer, refit
from napari_cnnvis.training.weights.normalise import Normalised, recompute_statistics


def plain_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, 4, 3),
        nn.ReLU(),
        nn.Conv3d(4, 6, 3, bias=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(6, 2),
    )


def test_lsuv_gives_outputs_of_variance_one():
    net = plain_net()
    x = torch.rand(4, 1, 12, 12, 12)
    initialise(net, x)
    for layer in (0, 2, 6):
        assert abs(net[: layer + 1](x).std().item() - 1) < 0.02
    weight = net[0].weight.detach().reshape(4, -1)
    gram = weight @ weight.T
    torch.testing.assert_close(gram / gram[0, 0], torch.eye(4), atol=1e-4, rtol=0)
    assert not any(layer._forward_hooks for layer in net.modules())


def test_lsuv_leaves_what_it_is_told():
    net = plain_net()
    before = net[0].weight.clone()
    initialise(net, torch.rand(2, 1, 12, 12, 12), keep=["0.weight"])
    assert torch.equal(net[0].weight, before)
    assert abs(net[:3](torch.rand(2, 1, 12, 12, 12)).std().item() - 1) < 0.1


def test_hooks_of_the_user_stay_when_the_normalisation_is_folded():
    net, seen = plain_net(), []
    net[2].register_forward_hook(lambda *_: seen.append("before it"))
    trained = Normalised(net)
    net[0].register_forward_hook(lambda *_: seen.append("after it"))
    linear = next(m for m in net if isinstance(m, nn.Linear))
    linear.register_forward_pre_hook(lambda *_: seen.append("linear"))
    folded = trained.fold()
    with torch.no_grad():
        folded(torch.rand(1, 1, 12, 12, 12))
    assert sorted(seen) == ["after it", "before it", "linear"]
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()) == 3


@pytest.mark.parametrize("make", [plain_net, VoxResNetGAP], ids=["plain", "with norms"])
def test_folded_normalisation_computes_the_same(make):
    net = make()
    names = list(net.state_dict())
    trained = Normalised(net)
    x = torch.rand(4, 1, 12, 12, 12)
    trained.train()
    for step in range(6):
        loss = F.cross_entropy(trained(x + 0.1 * step), torch.tensor([0, 1, 0, 1]))
        loss.backward()
    trained.eval()
    expected = trained(x)
    folded = trained.fold()
    torch.testing.assert_close(folded(x), expected, atol=2e-5, rtol=2e-4)
    assert folded is net
    assert set(names) <= set(net.state_dict())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert len(trained.norms) == (2 if make is plain_net else 0)


def test_calibration_recovers_temperature_and_bias():
    generator = torch.Generator().manual_seed(0)
    true = 2 * torch.randn(4000, 3, generator=generator)
    labels = torch.multinomial(true.softmax(1), 1, generator=generator)[:, 0]
    wrong = 4 * (true - torch.tensor([1.0, -0.5, -0.5]))
    before = F.cross_entropy(wrong, labels)
    calibration = Calibration.of(wrong, labels)
    assert calibration.temperature == pytest.approx(4, rel=0.15)
    assert calibration.biases == pytest.approx((1.0, -0.5, -0.5), abs=0.2)
    linear = nn.Linear(3, 3)
    with torch.no_grad():
        linear.weight.copy_(4 * torch.eye(3))
        linear.bias.copy_(-4 * torch.tensor([1.0, -0.5, -0.5]))
    assert calibration.fold_into(nn.Sequential(linear))
    after = F.cross_entropy(linear(true), labels)
    assert after < before
    assert after - F.cross_entropy(true, labels) < 0.01


def test_calibration_needs_a_linear_layer_and_survives_perfect_scores():
    assert not Calibration(2.0, (0.0, 0.0)).fold_into(nn.Sequential(nn.Conv3d(1, 2, 1)))
    logits = torch.tensor([[1.0, 0], [0, 1.0]]) * 1e-3
    calibration = Calibration.of(logits, torch.tensor([0, 1]))
    assert np.isfinite([calibration.temperature, *calibration.biases]).all()
    assert (logits / calibration.temperature).softmax(1)[0, 0] > 0.6


def test_the_last_layer_is_fitted_anew_where_that_does_better():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(300, 5, generator=generator) * 1e-3 + 7  # hardly differ
    labels = (features[:, 1] > 7).long()
    net = nn.Sequential(nn.Linear(5, 2))
    batches = lambda part: [(features[part], labels[part])]  # noqa: E731
    data = [_FlatFeatures(net, batches(part)) for part in (slice(0, 200), slice(200, 300))]
    strength = refit(net, *data)
    assert strength in (1.0, 10.0, 100.0)
    assert (net(features[200:]).argmax(1) == labels[200:]).float().mean() > 0.95
    with torch.no_grad():  # one that no penalised fit comes near to
        net[0].weight.copy_(torch.tensor([[0, -1e5, 0, 0, 0], [0, 1e5, 0, 0, 0]]))
        net[0].bias.copy_(torch.tensor([7e5, -7e5]))
    data = [_FlatFeatures(net, batches(part)) for part in (slice(0, 200), slice(200, 300))]
    weight = net[0].weight.clone()
    assert refit(net, *data) is None
    assert torch.equal(net[0].weight, weight)


def test_a_last_layer_that_is_not_the_last_is_left_alone():
    net = nn.Sequential(nn.Linear(5, 2), nn.Softmax(1))
    data = _FlatFeatures(net, [(torch.randn(20, 5), torch.arange(20) % 2)])
    assert refit(net, data, data) is None
    assert output_layer(nn.Sequential(nn.Conv3d(1, 2, 3))) is None


class _FlatFeatures(Features):
    """Of networks that take (n, features), which have no memory format."""

    def __init__(self, network, batches):
        flat = nn.Sequential(nn.Flatten(), network)
        super().__init__(flat, [(x[:, :, None, None, None], y) for x, y in batches])


def test_recomputed_statistics_are_those_of_the_scans():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(1, 3, 3), nn.BatchNorm3d(3), nn.Dropout(0.5), nn.BatchNorm3d(3))
    net[3].requires_grad_(False)
    scans = torch.randn(6, 1, 8, 8, 8) * 2 + 1
    frozen = net[3].running_var.clone()
    recompute_statistics(net.eval(), [scans[:2], scans[2:4], scans[4:]])
    features = net[0](scans)
    torch.testing.assert_close(
        net[1].running_mean, features.mean((0, 2, 3, 4)), atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(net[1].running_var, features.var((0, 2, 3, 4)), atol=0.05, rtol=0.05)
    assert torch.equal(net[3].running_var, frozen)
    assert not any(module.training for module in net.modules())
    assert net[1].momentum == 0.1
