"""Training a network as a Lightning module: loss, steps, optimiser, what is logged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_cnnvis.models.execution import arrange_weights
from napari_cnnvis.training.augment import Augmentation
from napari_cnnvis.training.batches import BalancedSampler
from napari_cnnvis.training.metrics import classification_metrics
from napari_cnnvis.training.recipes import Recipe
from napari_cnnvis.training.weights.normalise import recompute_statistics

__all__ = ["ClassifierTask"]

#: scans that BatchNorm's statistics are taken from before each validation
_SCANS_FOR_STATISTICS = 32


class ClassifierTask(lightning.LightningModule):
    """A network that learns classes by cross-entropy.

    Parameters
    ----------
    network : nn.Module
        Gives logits.
    recipe : Recipe
    seed : int
        Together with epoch and step it decides on dropout and augmentation, so that training
        that goes on after an interruption does what it would have done.
    flip_axis : int
        The axis from left to right, for augmentation.
    sampler : BalancedSampler, optional
        Is told of each epoch; Lightning itself does not where several devices share it.
    report : callable, optional
        Called with (epoch, share of the epoch that is done) after each step.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        seed: int,
        flip_axis: int = 0,
        sampler: BalancedSampler | None = None,
        report: Callable[[int, float], None] | None = None,
    ) -> None:
        super().__init__()
        self.network = arrange_weights(network)
        self.recipe, self._seed, self._report = recipe, seed, report
        self._sampler = sampler
        self._augment = Augmentation(flip_axis) if recipe.augment else None
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._losses: list[float] = []
        self.history: list[dict[str, float]] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.contiguous(memory_format=torch.channels_last_3d)).float()

    def on_train_start(self) -> None:
        self._tell_sampler(self.current_epoch)

    def _tell_sampler(self, epoch: int) -> None:
        if self._sampler is not None:
            self._sampler.set_epoch(epoch)

    def on_train_epoch_start(self) -> None:
        self._losses = []
        for module in self.network.modules():
            if _frozen(module):
                module.eval()

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        x, labels = batch
        torch.manual_seed((self._seed * 100_003 + self.current_epoch) * 100_003 + index)
        if self._augment is not None:
            with torch.no_grad():
                x = self._augment(x)
        loss = F.cross_entropy(self(x), labels)
        self._losses.append(float(loss.detach()))
        if self._report is not None:
            self._report(self.current_epoch, (index + 1) / self.trainer.num_training_batches)
        return loss

    def on_validation_epoch_start(self) -> None:
        if self.recipe.normalise:
            few = self.trainer.train_dataloader.dataset
            size = self.recipe.batch
            recompute_statistics(
                self,
                (
                    few.batch(range(first, min(first + size, len(few)))).to(self.device)
                    for first in range(0, min(_SCANS_FOR_STATISTICS, len(few)), size)
                ),
            )

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        x, labels = batch
        self._seen.append((self(x).cpu(), labels.cpu()))

    def on_validation_epoch_end(self) -> None:
        logits, labels = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
        self._seen = []
        if self.trainer.world_size > 1:
            logits, labels = (
                self.all_gather(part.to(self.device)).flatten(0, 1).cpu()
                for part in (logits, labels)
            )
        self._note(
            {
                "validation loss": F.cross_entropy(logits, labels).item(),
                "validation accuracy": (logits.argmax(1) == labels).float().mean().item(),
                "validation AUC": classification_metrics(
                    labels.numpy(), logits.softmax(1).double().numpy()
                )["AUC"],
            }
        )
        self.log("validation_loss", self.history[-1]["validation loss"])

    def on_train_epoch_end(self) -> None:
        self._note({"training loss": float(np.mean(self._losses))})
        self._tell_sampler(self.current_epoch + 1)

    def _note(self, values: dict[str, float]) -> None:
        """Add to what is known of this epoch; validation ends before training's own hook."""
        if not self.history or self.history[-1]["epoch"] != self.current_epoch + 1:
            self.history.append({"epoch": self.current_epoch + 1})
        self.history[-1].update(values)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        if recipe.optimiser == "sgd":
            optimiser = torch.optim.SGD(
                parameters, recipe.rate, 0.9, nesterov=True, weight_decay=recipe.weight_decay
            )
        else:
            kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimiser]
            optimiser = kind(parameters, recipe.rate, weight_decay=recipe.weight_decay)
        if not recipe.one_cycle:
            return optimiser
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, recipe.rate, total_steps=max(steps, 2), pct_start=0.25
        )
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def _frozen(module: nn.Module) -> bool:
    """Whether none of a module's own parameters train, though it has some."""
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(p.requires_grad for p in own)
