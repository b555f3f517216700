"""The built-in architectures, and which of them a file's weights belong to."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.networks import LASAGNE_BN_EPS, VoxResNet, VoxResNetGAP, VoxVGG

__all__ = ["ARCHITECTURES", "build", "from_lasagne", "recognise"]

ARCHITECTURES: dict[str, type[nn.Module]] = {
    net.__name__: net for net in (VoxVGG, VoxResNet, VoxResNetGAP)
}
_REMEDY = "Choose another file, or give the network it was saved from: load_model(path, arch=...)."
_NORMS = (nn.BatchNorm1d, nn.BatchNorm3d)


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


def recognise(state: dict[str, torch.Tensor], path: Any) -> tuple[str, nn.Module]:
    """The built-in network that a state dict belongs to, with the weights loaded.

    Raises
    ------
    CheckpointError
        If it belongs to none of them or a shape does not fit.
    """
    best, best_share = "", 0.0
    for name, net in ARCHITECTURES.items():
        with torch.device("meta"):
            expected = set(_required(net()))
        share = len(expected & set(state)) / len(expected | set(_required_names(state)))
        if share > best_share:
            best, best_share = name, share
    if best_share < 0.5:
        some = ", ".join(list(state)[:3])
        raise CheckpointError(
            f"{path} belongs to another network: none of {', '.join(ARCHITECTURES)} has weights "
            f"called {some}, ... Give the network itself: load_model(path, arch=my_network)."
        )
    arguments = {}
    if "conv1a.weight" in state and state["conv1a.weight"].ndim == 5:
        arguments["in_channels"] = state["conv1a.weight"].shape[1]
    if "prob.weight" in state and state["prob.weight"].ndim == 2:
        arguments["n_classes"] = state["prob.weight"].shape[0]
    module = build(best, arguments)
    load_weights(module, state, best, path)
    return best, module


def load_weights(module: nn.Module, state: dict[str, torch.Tensor], name: str, path: Any) -> None:
    """Load a state dict that has to fit completely.

    Raises
    ------
    CheckpointError
        With the missing and unexpected names summed up, or the shapes that differ.
    """
    expected = module.state_dict()
    state = _with_own_prefix(state, list(expected))
    counters = {k for k in expected if k.endswith("num_batches_tracked")}
    missing = [k for k in expected if k not in state and k not in counters]
    extra = [k for k in state if k not in expected]
    if missing or extra:
        parts = [
            f"{len(keys)} of {total} weights {what} ({', '.join(keys[:3])}{', ...' * (len(keys) > 3)})"
            for keys, total, what in (
                (missing, len(expected) - len(counters), "are missing"),
                (extra, len(state), "are not part of it"),
            )
            if keys
        ]
        raise CheckpointError(f"{path} does not fit {name}: {'; '.join(parts)}. {_REMEDY}")
    wrong = [k for k, v in state.items() if v.shape != expected[k].shape]
    if wrong:
        k = wrong[0]
        raise CheckpointError(
            f"{path} does not fit {name}: {k} has shape {tuple(state[k].shape)}, but "
            f"{tuple(expected[k].shape)} is needed ({len(wrong)} such weights). {_REMEDY}"
        )
    bad = [k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()]
    if bad:
        raise CheckpointError(f"{path} holds NaN or infinite weights ({bad[0]}); train again.")
    module.load_state_dict({k: v.to(expected[k].dtype) for k, v in state.items()}, strict=False)


def _with_own_prefix(state: dict[str, torch.Tensor], names: list[str]) -> dict[str, torch.Tensor]:
    """`state` with the prefix, such as "net.", that all of a network's own names begin with."""
    prefix = next(iter(names), "")
    while prefix := prefix.rpartition(".")[0]:
        prefixed = {f"{prefix}.{k}": v for k, v in state.items()}
        if set(prefixed) <= set(names):
            return prefixed
    return state


def _required(module: nn.Module) -> list[str]:
    return _required_names(module.state_dict())


def _required_names(state: dict[str, torch.Tensor]) -> list[str]:
    return [k for k in state if not k.endswith("num_batches_tracked")]


def from_lasagne(arrays: tuple[np.ndarray, ...], path: Any) -> tuple[str, nn.Module]:
    """The built-in network that Lasagne's arrays, in layer order, belong to, with weights loaded.

    Convolutions are stored as (out, in, 3, 3, 3), dense weights as (in, out),
    BatchNorm as beta, gamma, mean, 1 / sqrt(variance + 1e-4).

    Raises
    ------
    CheckpointError
        If they belong to none of the built-in networks.
    """
    for name in ARCHITECTURES:
        if arrays[0].ndim != 5 or arrays[-1].ndim != 1:
            break
        with torch.device("meta"):
            module = build(name, {"in_channels": arrays[0].shape[1], "n_classes": len(arrays[-1])})
        if [a.shape for a in arrays] == list(_lasagne_shapes(module)):
            module = module.to_empty(device="cpu")
            load_weights(module, _lasagne_state(module, arrays), name, path)
            return name, module
    raise CheckpointError(
        f"{path} belongs to another network: its {len(arrays)} arrays fit none of "
        f"{', '.join(ARCHITECTURES)}. Choose a checkpoint of one of these."
    )


def _lasagne_layers(module: nn.Module) -> list[tuple[str, nn.Module]]:
    kinds = (nn.Conv3d, nn.Linear, *_NORMS)
    return [(name, m) for name, m in module.named_modules() if isinstance(m, kinds)]


def _lasagne_shapes(module: nn.Module) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []
    for _, layer in _lasagne_layers(module):
        if isinstance(layer, _NORMS):
            shapes += [(layer.num_features,)] * 4
        else:
            weight = tuple(layer.weight.shape)
            shapes += [weight[::-1] if isinstance(layer, nn.Linear) else weight, layer.bias.shape]
    return [tuple(s) for s in shapes]


def _lasagne_state(module: nn.Module, arrays: tuple[np.ndarray, ...]) -> dict[str, torch.Tensor]:
    state = {}
    rest = iter(arrays)
    for name, layer in _lasagne_layers(module):
        if isinstance(layer, _NORMS):
            values = dict(zip(("bias", "weight", "running_mean"), rest, strict=False))
            inverse_deviation = next(rest).astype(np.float64)
            values["running_var"] = (inverse_deviation**-2 - LASAGNE_BN_EPS).clip(0)
            state[f"{name}.num_batches_tracked"] = torch.tensor(0)
        else:
            weight, bias = next(rest), next(rest)
            values = {"weight": weight.T if isinstance(layer, nn.Linear) else weight, "bias": bias}
        for part, value in values.items():
            state[f"{name}.{part}"] = torch.from_numpy(np.ascontiguousarray(value, np.float32))
    return state
