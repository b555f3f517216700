"""Augmentation, LSUV, foldable normalisation, calibration, metrics, recipes, the first network."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from napari_cnnvis.errors import CheckpointError, MethodError
from napari_cnnvis.models.checkpoint import save_model
from napari_cnnvis.models.networks.vox import VoxResNet, VoxResNetGAP
from napari_cnnvis.training.augment import Augmentation
from napari_cnnvis.training.calibrate import Calibration
from napari_cnnvis.training.initialise import initialise
from napari_cnnvis.training.last_layer import Features, output_layer, refit
from napari_cnnvis.training.metrics import classification_metrics, mean_and_deviation
from napari_cnnvis.training.normalise import Normalised, recompute_statistics
from napari_cnnvis.training.recipes import make_recipe
from napari_cnnvis.training.start_networks import NetworkPlan


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


def test_augmented_scans_are_near_the_scan_or_its_mirror():
    i, j, k = torch.meshgrid(*[torch.linspace(-1, 1, 24)] * 3, indexing="ij")
    ball = lambda x: torch.exp(-8 * ((i - x) ** 2 + j**2 + k**2))  # noqa: E731
    scan = ball(0.5)
    scan[scan < 0.02] = 0
    torch.manual_seed(0)
    changed = Augmentation(0)(scan.expand(32, 1, 24, 24, 24).contiguous())
    centres = (changed[:, 0] * i).sum((1, 2, 3)) / changed[:, 0].sum((1, 2, 3))
    assert (centres.abs() - 0.5).abs().max() < 0.15
    assert 6 < (centres > 0).sum() < 26  # both sides
    others = (changed[:, 0] * j).sum((1, 2, 3)) / changed[:, 0].sum((1, 2, 3))
    assert others.abs().max() < 0.15
    assert changed[0].std() > 0
    assert not torch.equal(changed[0], changed[1])
    assert (changed[:, :, 0, 0, 0] == 0).all()  # background stays background


def test_augmentation_mirrors_the_axis_it_is_told():
    scan = torch.zeros(40, 1, 16, 16, 16)
    scan[:, :, :, :, 12:15] = 1  # at one end of the last axis
    torch.manual_seed(1)
    changed = Augmentation(2)(scan)[:, 0]
    high = changed[..., 8:].sum((1, 2, 3)) > changed[..., :8].sum((1, 2, 3))
    assert 8 < high.sum() < 32
    torch.manual_seed(1)
    assert (Augmentation(0)(scan)[:, 0, ..., 8:].sum((1, 2, 3)) > 0).all()


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


def test_metrics_of_a_worked_example():
    labels = np.array([0, 0, 1, 1])
    p = np.array([0.1, 0.6, 0.4, 0.9])
    scores = classification_metrics(labels, np.stack([1 - p, p], axis=1))
    assert scores["accuracy"] == 0.5
    assert scores["AUC"] == 0.75
    assert (scores["sensitivity"], scores["specificity"]) == (0.5, 0.5)
    assert scores["Brier"] == pytest.approx(2 * np.mean([0.01, 0.36, 0.36, 0.01]))
    assert scores["log loss"] == pytest.approx(-np.log([0.9, 0.4, 0.4, 0.9]).mean())


def test_metrics_of_three_classes_equal_torchmetrics():
    from torchmetrics.functional.classification import multiclass_accuracy

    random = np.random.default_rng(0)
    p = random.dirichlet([1, 1, 1], 60)
    labels = random.integers(0, 3, 60)
    scores = classification_metrics(labels, p)
    expected = multiclass_accuracy(torch.tensor(p), torch.tensor(labels), 3, average="macro")
    assert scores["balanced accuracy"] == pytest.approx(expected.item(), abs=1e-6)
    assert "sensitivity" not in scores


def test_metrics_of_one_class_are_unknown_where_they_must_be():
    scores = classification_metrics(np.array([1, 1]), np.array([[0.4, 0.6], [0.7, 0.3]]))
    assert scores["accuracy"] == 0.5
    assert np.isnan(scores["AUC"])
    mean = mean_and_deviation([scores, {**scores, "AUC": 0.9, "accuracy": 1.0}])
    assert mean["AUC"] == (0.9, 0.0)
    assert mean["accuracy"] == pytest.approx((0.75, np.sqrt(0.125)))


def test_recipes():
    assert make_recipe("paper", "VoxVGG").rate == 2.7e-5
    resnet = make_recipe("paper", "VoxResNet", epochs=3, rate=None)
    assert (resnet.optimiser, resnet.batch, resnet.epochs, resnet.rate) == ("sgd", 3, 3, 1e-3)
    for wrong in ({"batch": 0}, {"rate": -1.0}, {"validation": 1.0}, {"speed": 3}):
        with pytest.raises(MethodError):
            make_recipe("modern", "", **wrong)
    with pytest.raises(MethodError, match="paper, modern"):
        make_recipe("best", "")


def test_a_network_starts_from_a_similar_one(tmp_path):
    torch.manual_seed(0)
    stem = VoxResNetGAP()
    file = save_model(stem, tmp_path / "gap.safetensors", ["a", "b"])
    plan = NetworkPlan("voxresnet", 2, str(file), freeze=("conv1", "voxres2"))
    assert plan.required_shape == (110, 110, 110)
    net = plan._fresh()
    assert isinstance(net, VoxResNet)
    from napari_cnnvis.training.start_networks import _freeze, _load_matching

    loaded = _load_matching(net, plan.start_from, False)
    assert torch.equal(net.conv1a.weight, stem.conv1a.weight)
    assert "conv4.weight" not in loaded
    assert "prob.weight" not in loaded  # of another size
    _freeze(net, plan.freeze)
    assert not net.conv1c.weight.requires_grad
    assert net.conv4.weight.requires_grad
    with pytest.raises(MethodError, match="conv7, voxres8_bn1"):
        _freeze(net, ["conf1"])
    with pytest.raises(MethodError, match="at least one"):
        _freeze(net, [""])


def test_networks_that_do_not_fit(tmp_path, net):
    scans = torch.rand(2, 1, 8, 8, 8)
    with pytest.raises(CheckpointError, match="VoxVGG"):
        _ = NetworkPlan("resnet99", 2).architecture
    with pytest.raises(MethodError, match=r"\(1, 3\) is needed"):
        NetworkPlan(net, 3, trust=True).make(scans)
    other = save_model(
        nn.Linear(3, 2), tmp_path / "o.safetensors", ["a", "b"], arch="torch.nn:Linear(3, 2)"
    )
    with pytest.raises(CheckpointError, match="No layer"):
        NetworkPlan(net, 2, str(other), trust=True).make(scans)


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
