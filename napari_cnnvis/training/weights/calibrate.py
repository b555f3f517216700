"""Probabilities that mean what they say: a temperature and biases for the outputs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_cnnvis.training.weights.last_layer import output_layer

__all__ = ["Calibration"]

#: how strongly the values are pulled to none, in scans
_PULL = 0.5


@dataclass(frozen=True)
class Calibration:
    """Calibrated logits are ``logits / temperature + biases``.

    Temperature scaling [1]_ corrects how sure a network is; the biases, one for each
    class, correct where it draws the line, which few scans in a batch leave uncertain.

    Attributes
    ----------
    temperature : float
        0.1 to 10 times the typical size of the logits.
    biases : tuple of float
        They add up to 0.

    References
    ----------
    .. [1] C. Guo et al., "On calibration of modern neural networks",
       arXiv:1706.04599, 2017.
    """

    temperature: float
    biases: tuple[float, ...]

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor) -> Calibration:
        """Those with the smallest cross-entropy, with a weak pull to none.

        Parameters
        ----------
        logits : Tensor, shape (n, classes)
            Of scans that were not trained on.
        labels : Tensor of int, shape (n,)
        """
        logits = logits.double()
        size = logits.std().clamp(min=1e-12)
        scale = torch.zeros((), dtype=torch.double, requires_grad=True)
        biases = torch.zeros(logits.shape[1], dtype=torch.double, requires_grad=True)
        optimiser = torch.optim.LBFGS([scale, biases], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()
            calibrated = logits / size * scale.exp() + biases
            pull = _PULL / len(labels) * (scale.square() + biases.square().sum())
            value = F.cross_entropy(calibrated, labels) + pull
            value.backward()
            return value

        optimiser.step(loss)
        with torch.no_grad():
            factor = scale.clamp(-2.3, 2.3).exp() / size
            return cls(float(1 / factor), tuple((biases - biases.mean()).tolist()))

    @torch.no_grad()
    def fold_into(self, network: nn.Module) -> bool:
        """Change a network's last linear layer so; False if it has none or one without bias."""
        last = output_layer(network)
        if last is None:
            return False
        last.weight.div_(self.temperature)
        last.bias.div_(self.temperature)
        last.bias.add_(torch.tensor(self.biases, dtype=last.bias.dtype, device=last.bias.device))
        return True

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)
