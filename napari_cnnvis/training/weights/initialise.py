"""Weights to begin with: layer-sequential unit variance (LSUV)."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

__all__ = ["initialise"]


@torch.no_grad()
def initialise(network: nn.Module, x: Tensor, keep: Collection[str] = ()) -> None:
    """Give convolutions and linear layers orthogonal weights whose outputs have variance 1 [1]_.

    All layers are set in one pass over `x`: outputs are proportional to the weights, so
    each layer is scaled as its output is computed, and the next one sees it scaled.
    Biases become 0. BatchNorm takes the statistics of `x`, as it will while training.

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    x : Tensor, shape (n, channels, i, j, k)
        Some scans.
    keep : collection of str
        Names of weights that stay as they are.

    References
    ----------
    .. [1] D. Mishkin, J. Matas, "All you need is a good init", arXiv:1511.06422, 2015.
    """
    handles = []

    def scale(layer: nn.Module, _: tuple, output: Tensor) -> Tensor:
        deviation = output.float().std()
        if not torch.isfinite(deviation) or deviation < 1e-12:
            return output
        layer.weight.div_(deviation)
        return output / deviation

    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv3d | nn.Linear) and f"{name}.weight" not in keep:
            nn.init.orthogonal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            handles.append(layer.register_forward_hook(scale))
    modes = {module: module.training for module in network.modules()}
    momenta = {module: module.momentum for module in modes if isinstance(module, _BatchNorm)}
    try:
        for module in modes:
            module.training = not isinstance(module, _DropoutNd)
        for norm in momenta:
            norm.momentum = 0.0  # this batch leaves no trace in the running statistics
        network(x)
    finally:
        for handle in handles:
            handle.remove()
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
