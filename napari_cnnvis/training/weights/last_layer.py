"""The last layer of a network: refitted to the features that the others give."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Features", "output_layer", "refit"]

#: inverse strengths of the penalty that are tried
_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)


def output_layer(network: nn.Module) -> nn.Linear | None:
    """The last linear layer, None if there is none with a bias."""
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear and linear[-1].bias is not None else None


class Features:
    """What enters a network's last layer, for some scans.

    Attributes
    ----------
    values : array, float64, shape (n, features)
    logits : Tensor, shape (n, classes)
    labels : Tensor of int, shape (n,)
    """

    @torch.no_grad()
    def __init__(self, network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        layer = output_layer(network)
        inputs: list[Tensor] = []
        handle = None
        if layer is not None:
            handle = layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0].cpu()))
        device = next(network.parameters()).device
        logits, labels = [], []
        try:
            for x, y in batches:
                arranged = x.to(device).contiguous(memory_format=torch.channels_last_3d)
                logits.append(network(arranged).float().cpu())
                labels.append(y)
        finally:
            if handle is not None:
                handle.remove()
        self.logits, self.labels = torch.cat(logits), torch.cat(labels)
        self.values = torch.cat(inputs).double().numpy() if inputs else np.empty((0, 0))


def refit(network: nn.Module, train: Features, validation: Features) -> float | None:
    """Fit the last layer by logistic regression, in place, if that does better.

    BatchNorm gives other features while it trains, in batches of a few scans, than when
    it is done. Among penalties of several strengths, and the layer as it was trained, the
    one with the smallest cross-entropy on the validation scans is taken.

    Returns
    -------
    float or None
        scikit-learn's C, None if the layer stays as it was or is none that can be fitted.
    """
    from sklearn.linear_model import LogisticRegression

    layer = output_layer(network)
    if layer is None or not len(train.values) or train.values.ndim != 2:
        return None
    if not torch.allclose(_applied(layer, validation.values), validation.logits, atol=1e-3):
        return None  # something comes after it
    mean, deviation = train.values.mean(axis=0), train.values.std(axis=0) + 1e-10
    x = (train.values - mean) / deviation
    best = F.cross_entropy(validation.logits, validation.labels).item()
    chosen, fitted = None, None
    for strength in _STRENGTHS:
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=5000)
        model.fit(x, train.labels.numpy())
        weight, bias = model.coef_, model.intercept_
        if len(weight) == 1:  # of two classes, the second against the first
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        weight = weight / deviation
        bias = bias - weight @ mean
        logits = torch.from_numpy(validation.values @ weight.T + bias)
        loss = F.cross_entropy(logits, validation.labels).item()
        if loss < 0.999 * best:
            best, chosen, fitted = loss, strength, (weight, bias)
    if fitted is not None:
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(fitted[0]))
            layer.bias.copy_(torch.from_numpy(fitted[1]))
    return chosen


@torch.no_grad()
def _applied(layer: nn.Linear, values: np.ndarray) -> Tensor:
    x = torch.from_numpy(values).to(layer.weight.device, layer.weight.dtype)
    return layer(x).float().cpu()
