"""Train a network on the simulated cohort: AdamW, one-cycle rate, full 110^3 grid."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import simulated_cohort as cohort
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

#: seeds of the subjects; subject n of a set has class n % 2
TRAINING_SEED, FITTING_SEED, HELD_OUT_SEED, PATIENT_SEED = 10_000, 15_000, 20_000, 30_000
#: bounding box of the brains, for a start at half the cost
BRAIN_BOX = (..., slice(15, 95), slice(7, 103), slice(13, 97))


@dataclass(frozen=True)
class Recipe:
    """How to train.

    ``subjects`` a pass, ``epochs`` passes, ``batch`` size, peak ``rate``, ``held_out``
    subjects to test on, ``seed``. ``paired`` shows each anatomy with and without
    atrophy in one batch, over the brains' bounding box, which tells the disease from
    the anatomy soon. BatchNorm then sees one anatomy at a time, so the last layer is
    fitted anew to unpaired subjects on the full grid, in evaluation mode.
    """

    subjects: int
    epochs: int
    batch: int = 4
    rate: float = 1e-3
    paired: bool = False
    held_out: int = 40
    seed: int = 0


def train(net: nn.Module, template: cohort.Template, recipe: Recipe) -> dict[str, float]:
    """Train in place; return the record that goes into the checkpoint's header.

    ``held_out_accuracy`` and ``held_out_loss`` are of subjects that were never
    trained on, measured once after the last epoch, on the full grid.
    """
    torch.manual_seed(recipe.seed)
    scans, labels = _subjects(template, TRAINING_SEED, recipe.subjects, recipe.paired)
    test_scans, test_labels = _subjects(template, HELD_OUT_SEED, recipe.held_out)
    trained, finish = _with_helpers(net)
    trained.to(memory_format=torch.channels_last_3d)
    first = scans[BRAIN_BOX] if recipe.paired else scans
    _run_epochs(trained, first, labels, recipe)
    recompute_batchnorm(trained, first[:32], recipe.batch)
    finish()
    if recipe.paired:
        fitting = _subjects(template, FITTING_SEED, recipe.subjects)
        fit_last_layer(net.prob, globally_averaged(net, fitting[0]), fitting[1])
    accuracy, test_loss = evaluate(net, test_scans, test_labels)
    return {
        "held_out_accuracy": accuracy,
        "held_out_loss": test_loss,
        "held_out_subjects": recipe.held_out,
        "training_subjects": recipe.subjects,
        "epochs": recipe.epochs,
        "seed": recipe.seed,
    }


@torch.no_grad()
def globally_averaged(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What enters the last layer ``prob``, in evaluation mode."""
    collected = []
    handle = net.prob.register_forward_pre_hook(lambda _, inputs: collected.append(inputs[0]))
    net.eval()
    for part in x.split(2):
        net(part.contiguous(memory_format=torch.channels_last_3d))
    handle.remove()
    return torch.cat(collected)


def fit_last_layer(
    linear: nn.Linear, features: torch.Tensor, labels: torch.Tensor, penalty: float = 20.0
) -> None:
    """Logistic regression with an L2 penalty on standardised features, in place."""
    mean, deviation = features.mean(0), features.std(0) + 1e-10
    x = ((features - mean) / deviation).double()
    weight = torch.zeros(linear.weight.shape, dtype=torch.double, requires_grad=True)
    bias = torch.zeros(linear.bias.shape, dtype=torch.double, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        error = F.cross_entropy(x @ weight.T + bias, labels, reduction="sum")
        value = error + penalty / 2 * weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    with torch.no_grad():
        linear.weight.copy_(weight / deviation)
        linear.bias.copy_(bias - (weight / deviation) @ mean.double())


def _run_epochs(net: nn.Module, scans: torch.Tensor, labels: torch.Tensor, recipe: Recipe) -> None:
    optimiser = torch.optim.AdamW(net.parameters(), lr=recipe.rate)
    steps = recipe.epochs * (len(scans) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps)
    for epoch in range(recipe.epochs):
        net.train()
        losses = []
        for chosen in _balanced_batches(labels, recipe.batch, recipe.paired):
            x = scans[chosen]
            if torch.rand(()) < 0.5:
                x = x.flip(2)  # left and right
            x = x.contiguous(memory_format=torch.channels_last_3d)
            loss = F.cross_entropy(net(x), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        loss = sum(losses) / len(losses)
        print(f"epoch {epoch + 1}/{recipe.epochs}: training loss {loss:.3f}", flush=True)


def _subjects(
    template: cohort.Template, seed: int, n: int, paired: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    seeds = [seed + (i // 2 if paired else i) for i in range(n)]
    subjects = [cohort.make_subject(template, i % 2, s) for i, s in enumerate(seeds)]
    return (
        torch.stack([s.scan for s in subjects])[:, None],
        torch.tensor([s.label for s in subjects]),
    )


def _balanced_batches(labels: torch.Tensor, size: int, paired: bool) -> list[torch.Tensor]:
    """Batches with as many of either class, in random order."""
    classes = [torch.nonzero(labels == c).flatten() for c in (0, 1)]
    order = torch.randperm(len(classes[0]))
    other = order if paired else torch.randperm(len(classes[1]))
    halves = [c[o].split(size // 2) for c, o in zip(classes, (order, other), strict=True)]
    return [torch.cat(pair) for pair in zip(*halves, strict=True)]


def _with_helpers(net: nn.Module) -> tuple[nn.Module, Callable[[], None]]:
    """The network with layers that help it train, and what folds them in again."""
    if any(isinstance(m, nn.BatchNorm3d) for m in net.modules()):
        standardise = Standardise(net.prob.in_features)
        net.prob = nn.Sequential(standardise, net.prob)
        return net, lambda: fold_standardise(net)
    with_norms = with_batchnorm(net)
    return with_norms, lambda: fold_batchnorm(with_norms)


class Standardise(nn.Module):
    """Features to mean 0 and variance 1 by running statistics, also while training.

    A globally averaged feature hardly differs between subjects; without this the
    linear layer behind it would need weights in the hundreds.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("variance", torch.ones(features))
        self.batches = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            with torch.no_grad():
                self.batches += 1
                share = max(0.05, 1 / self.batches)
                self.mean += share * (x.mean(0) - self.mean)
                self.variance += share * ((x - self.mean).square().mean(0) - self.variance)
        return (x - self.mean) / (self.variance + 1e-10).sqrt()


@torch.no_grad()
def fold_standardise(net: nn.Module) -> None:
    """Move `Standardise` into the linear layer behind it, in place."""
    standardise, linear = net.prob
    deviation = (standardise.variance + 1e-10).sqrt()
    linear.bias -= linear.weight @ (standardise.mean / deviation)
    linear.weight /= deviation
    net.prob = linear


def with_batchnorm(net: nn.Module) -> nn.Module:
    """A BatchNorm behind every convolution of a plain network, sharing its layers.

    Deep plain networks hardly train from any start; with BatchNorm they do, and
    `fold_batchnorm` turns the result into the plain network that computes the same.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in net.named_children():
        layers[name] = layer
        if isinstance(layer, nn.Conv3d):
            layers[f"{name}_norm"] = nn.BatchNorm3d(layer.out_channels)
    return nn.Sequential(layers)


@torch.no_grad()
def fold_batchnorm(net: nn.Module) -> None:
    """Move each BatchNorm that `with_batchnorm` added into its convolution, in place."""
    for name, layer in net.named_children():
        norm = getattr(net, f"{name}_norm", None)
        if norm is not None:
            fused = fuse_conv_bn_eval(layer.eval(), norm.eval())
            layer.weight.copy_(fused.weight)
            layer.bias.copy_(fused.bias)


@torch.no_grad()
def recompute_batchnorm(net: nn.Module, x: torch.Tensor, batch: int) -> None:
    """Replace the running BatchNorm statistics by the plain mean over ``x``, dropout off."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    net.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean
        norm.train()
    for part in x.split(batch):
        net(part.contiguous(memory_format=torch.channels_last_3d))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    net.eval()


@torch.no_grad()
def evaluate(net: nn.Module, x: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Accuracy and cross-entropy in eval mode."""
    net.eval()
    logits = torch.cat([net(part) for part in x.split(4)])
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    return accuracy, F.cross_entropy(logits, labels).item()
