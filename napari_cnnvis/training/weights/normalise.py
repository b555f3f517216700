"""Normalisation that helps a network train and is folded into its layers at the end."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils.hooks import RemovableHandle

__all__ = ["Normalised", "recompute_statistics"]

_NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
)


class Normalised(nn.Module):
    """A network with layers beside it that normalise while it trains.

    Deep plain networks hardly train from any start; with a BatchNorm after every
    convolution they do. And a globally averaged feature hardly differs between scans, so
    that the linear layer after it would need weights in the hundreds; it gets features of
    mean 0 and variance 1 instead. `fold` turns the result into the plain network that
    computes the same.

    Parameters
    ----------
    network : nn.Module
        Its modules are shared, not copied. A network that normalises already gets no
        BatchNorm, one without global average pooling no standardised features.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.norms = nn.ModuleDict()
        self._convolutions: dict[str, nn.Conv3d] = {}
        self._last: nn.Linear | None = None
        self._hooks: list[RemovableHandle] = []
        modules = dict(network.named_modules())
        if not any(isinstance(module, _NORMS) and _is_3d(module) for module in modules.values()):
            for name, layer in modules.items():
                if isinstance(layer, nn.Conv3d):
                    key = name.replace(".", "/")
                    self.norms[key] = nn.BatchNorm3d(layer.out_channels)
                    self._convolutions[key] = layer
                    self._hooks.append(layer.register_forward_hook(self._normaliser(key)))
        linear = [m for m in modules.values() if isinstance(m, nn.Linear)]
        pooled = any(isinstance(m, nn.AdaptiveAvgPool3d) for m in modules.values())
        if pooled and len(linear) == 1:
            self._last = linear[0]
            self.standardise = Standardise(self._last.in_features)
            self._hooks.append(
                self._last.register_forward_pre_hook(lambda _, inputs: self.standardise(inputs[0]))
            )

    def _normaliser(self, key: str):
        return lambda _, inputs, output: self.norms[key](output)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    @torch.no_grad()
    def fold(self) -> nn.Module:
        """The network, in evaluation mode, with the normalisation inside its own layers.

        The helpers are used up; train no further with this object.
        """
        self.eval()
        for key, layer in self._convolutions.items():
            norm = self.norms[key]
            weight, bias = fuse_conv_bn_weights(
                layer.weight,
                layer.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
            )
            layer.weight.copy_(weight)
            if layer.bias is None:
                layer.bias = nn.Parameter(bias)
            else:
                layer.bias.copy_(bias)
        if self._last is not None:
            deviation = self.standardise.deviation
            if self._last.bias is None:
                self._last.bias = nn.Parameter(torch.zeros(self._last.out_features))
            self._last.bias.sub_(self._last.weight @ (self.standardise.mean / deviation))
            self._last.weight.div_(deviation)
        for hook in self._hooks:  # and no other: a network may have hooks of its own
            hook.remove()
        return self.network


class Standardise(nn.Module):
    """Features (n, c) to mean 0 and variance 1 by running statistics, also while training."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("variance", torch.ones(features))
        self.register_buffer("batches", torch.tensor(0))

    @property
    def deviation(self) -> Tensor:
        """Shape (c,)."""
        return (self.variance + 1e-10).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        if self.training:
            with torch.no_grad():
                self.batches += 1
                share = max(0.05, 1 / self.batches.item())
                self.mean += share * (x.mean(0) - self.mean)
                self.variance += share * ((x - self.mean).square().mean(0) - self.variance)
        return (x - self.mean) / self.deviation


def _is_3d(module: nn.Module) -> bool:
    return not isinstance(module, nn.BatchNorm1d)


@torch.no_grad()
def recompute_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace running statistics by the means over some batches [1]_, in place.

    Running statistics lag behind weights that change fast, and where a batch holds a few
    scans that hardly differ, as they do after a global average, the lag is larger than
    what tells the scans apart. Layers that do not train keep theirs. Dropout is off.

    Parameters
    ----------
    network : nn.Module
        Its training flags are left as they are.
    batches : iterable of Tensor, shape (n, channels, i, j, k)

    References
    ----------
    .. [1] Y. Wu, J. Johnson, "Rethinking 'Batch' in BatchNorm", arXiv:2105.07576, 2021.
    """
    modes = {module: module.training for module in network.modules()}
    momenta = {m: m.momentum for m in modes if isinstance(m, _BatchNorm) and _trains(m)}
    means = [module for module in modes if isinstance(module, Standardise)]
    if not momenta and not means:
        return
    try:
        network.eval()
        for norm in momenta:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all batches
            norm.train()
        for layer in means:
            layer.batches.zero_()
            layer.train()
        for x in batches:
            network(x)
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode


def _trains(norm: nn.Module) -> bool:
    parameters = list(norm.parameters(recurse=False))
    return not parameters or any(p.requires_grad for p in parameters)
