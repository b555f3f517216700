"""Train a network on the simulated cohort: AdamW, one-cycle rate, full 110^3 grid."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import simulated_cohort as cohort
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

#: seeds of the subjects; subject n of a set has class n % 2
TRAINING_SEED, HELD_OUT_SEED, PATIENT_SEED = 10_000, 20_000, 30_000


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train: subjects a pass, passes, batch size, peak rate, seed."""

    subjects: int
    epochs: int
    batch: int = 4
    rate: float = 1e-3
    held_out: int = 40
    seed: int = 0


def train(net: nn.Module, template: cohort.Template, recipe: Recipe) -> dict[str, float]:
    """Train in place; return the record that goes into the checkpoint's header.

    ``held_out_accuracy`` and ``held_out_loss`` are of subjects that were never
    trained on, measured once more after the last epoch.
    """
    torch.manual_seed(recipe.seed)
    scans, labels = _subjects(template, TRAINING_SEED, recipe.subjects)
    test_scans, test_labels = _subjects(template, HELD_OUT_SEED, recipe.held_out)
    plain = net
    if not any(isinstance(m, nn.BatchNorm3d) for m in net.modules()):
        net = with_batchnorm(net)
    net.to(memory_format=torch.channels_last_3d)
    optimiser = torch.optim.AdamW(net.parameters(), lr=recipe.rate)
    steps = recipe.epochs * (recipe.subjects // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps)
    for epoch in range(recipe.epochs):
        net.train()
        losses = []
        for batch in _balanced_batches(labels, recipe.batch):
            x = scans[batch]
            if torch.rand(()) < 0.5:
                x = x.flip(2)  # left and right
            x = x.contiguous(memory_format=torch.channels_last_3d)
            loss = F.cross_entropy(net(x), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        loss = sum(losses) / len(losses)
        print(f"epoch {epoch + 1}/{recipe.epochs}: training loss {loss:.3f}", flush=True)
    recompute_batchnorm(net, scans[:32], recipe.batch)
    if net is not plain:
        fold_batchnorm(net)
    accuracy, test_loss = evaluate(plain, test_scans, test_labels)
    return {
        "held_out_accuracy": accuracy,
        "held_out_loss": test_loss,
        "held_out_subjects": recipe.held_out,
        "training_subjects": recipe.subjects,
        "epochs": recipe.epochs,
        "seed": recipe.seed,
    }


def _subjects(template: cohort.Template, seed: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    subjects = [cohort.make_subject(template, i % 2, seed + i) for i in range(n)]
    return (
        torch.stack([s.scan for s in subjects])[:, None],
        torch.tensor([s.label for s in subjects]),
    )


def _balanced_batches(labels: torch.Tensor, size: int) -> list[torch.Tensor]:
    """Batches with as many of either class, in random order."""
    classes = [torch.nonzero(labels == c).flatten() for c in (0, 1)]
    halves = [c[torch.randperm(len(c))].split(size // 2) for c in classes]
    return [torch.cat(pair) for pair in zip(*halves, strict=True)]


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
