"""Augmentation, metrics, recipes, the first network."""

import numpy as np
import pytest
import torch
from torch import nn

from napari_cnnvis.errors import CheckpointError, MethodError
from napari_cnnvis.models.checkpoint import save_model
from napari_cnnvis.models.networks.vox import VoxResNet, VoxResNetGAP
from napari_cnnvis.training.augment import Augmentation
from napari_cnnvis.training.metrics import classification_metrics, mean_and_deviation
from napari_cnnvis.training.recipes import make_recipe
from napari_cnnvis.training.start_networks import NetworkPlan


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
