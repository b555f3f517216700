"""BatchNorm's statistics as they are for the weights of now."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from napari_cnnvis.training.normalise import Standardise

__all__ = ["recompute_statistics"]


@torch.no_grad()
def recompute_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace running statistics by the means over some batches [1]_, in place.

    Running statistics lag behind weights that change fast, and where a batch holds a few
    scans that hardly differ, as they do behind a global average, the lag is larger than
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
