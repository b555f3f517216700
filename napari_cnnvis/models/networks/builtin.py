"""The built-in architectures, and which of them a file's weights belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.networks.clinicadl import Conv4_FC3, Conv5_FC3
from napari_cnnvis.models.networks.vox import VoxResNet, VoxResNetGAP, VoxVGG
from napari_cnnvis.models.weight_names import bodies, is_counter

__all__ = ["ARCHITECTURES", "build", "recognise"]

ARCHITECTURES: dict[str, type[nn.Module]] = {
    net.__name__: net for net in (VoxVGG, VoxResNet, VoxResNetGAP, Conv5_FC3, Conv4_FC3)
}
#: those whose weights are recognised by their names alone
_RECOGNISED = ("VoxVGG", "VoxResNet", "VoxResNetGAP")


def build(name: str, arguments: dict[str, Any] | None = None) -> nn.Module:
    """A built-in network by name, with fresh weights.

    Raises
    ------
    CheckpointError
        If there is no such network or it does not take these arguments.
    """
    if name not in ARCHITECTURES:
        raise CheckpointError(
            f"'{name}' is not a built-in network; those are {', '.join(ARCHITECTURES)}."
        )
    try:
        return ARCHITECTURES[name](**(arguments or {}))
    except (TypeError, RuntimeError, ValueError) as exc:
        raise CheckpointError(f"{name} cannot be built with {arguments}: {exc}.") from exc


def recognise(state: Mapping[str, torch.Tensor]) -> tuple[str, dict[str, Any]] | None:
    """The built-in network whose names a state dict has, with its arguments, or None.

    They may lie behind a prefix, beside other weights such as a loss's.
    """
    best, best_share, best_body = "", 0.0, state
    for name in _RECOGNISED:
        with torch.device("meta"):
            expected = set(_required_names(ARCHITECTURES[name]().state_dict()))
        for body in bodies(state):
            share = len(expected & set(body)) / len(expected | set(_required_names(body)))
            if share > best_share:
                best, best_share, best_body = name, share, body
    if best_share < 0.5:
        return None
    arguments = {}
    if "conv1a.weight" in best_body and best_body["conv1a.weight"].ndim == 5:
        arguments["in_channels"] = best_body["conv1a.weight"].shape[1]
    if "prob.weight" in best_body and best_body["prob.weight"].ndim == 2:
        arguments["n_classes"] = best_body["prob.weight"].shape[0]
    return best, arguments


def _required_names(state: Mapping[str, torch.Tensor]) -> list[str]:
    return [k for k in state if not is_counter(k)]
