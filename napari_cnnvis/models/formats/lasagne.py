"""The reference's Lasagne checkpoints: an ``.npz`` of arrays in layer order."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.networks.builtin import ARCHITECTURES, build
from napari_cnnvis.models.networks.vox import LASAGNE_BN_EPS
from napari_cnnvis.models.weights import load_weights, match_weights

__all__ = ["from_lasagne", "read_lasagne"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm3d)


def read_lasagne(path: Path) -> tuple[np.ndarray, ...]:
    """The arrays arr_0, arr_1, ... of an ``.npz`` file.

    Raises
    ------
    CheckpointError
        If the file is damaged, holds Python objects or arrays of other names.
    """
    try:
        if not zipfile.is_zipfile(path):  # numpy would take it for a pickle
            raise zipfile.BadZipFile
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            names = file.files
            if not names or any(not n.startswith("arr_") for n in names):
                raise CheckpointError(
                    f"{path} is not a Lasagne checkpoint: its arrays should be called "
                    f"arr_0, arr_1, ..., but are {', '.join(names[:4]) or 'missing'}."
                )
            return tuple(file[f"arr_{n}"] for n in range(len(names)))
    except CheckpointError:
        raise
    except KeyError as exc:
        raise CheckpointError(f"{path} misses the array {exc}; copy it again.") from exc
    except (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile, SyntaxError) as exc:
        if "pickle" in str(exc):
            raise CheckpointError(
                f"{path} holds Python objects, which would run code on loading; save plain "
                "arrays with numpy.savez instead."
            ) from exc
        raise CheckpointError(
            f"{path} is not a complete .npz file; copy or download it again."
        ) from exc


def from_lasagne(arrays: tuple[np.ndarray, ...], path: Any) -> tuple[str, nn.Module]:
    """The built-in network that Lasagne's arrays, in layer order, belong to, with weights loaded.

    Convolutions are stored as (out, in, 3, 3, 3), dense weights as (in, out),
    BatchNorm as beta, gamma, mean, 1 / sqrt(variance + 1e-4).

    Raises
    ------
    CheckpointError
        If they belong to none of the built-in networks.
    """
    for name in ("VoxVGG", "VoxResNet", "VoxResNetGAP"):
        if arrays[0].ndim != 5 or arrays[-1].ndim != 1:
            break
        with torch.device("meta"):
            module = build(name, {"in_channels": arrays[0].shape[1], "n_classes": len(arrays[-1])})
        if [a.shape for a in arrays] == list(_shapes(module)):
            module = module.to_empty(device="cpu")
            load_weights(module, match_weights(module, _state(module, arrays)), name, path)
            return name, module
    raise CheckpointError(
        f"{path} belongs to another network: its {len(arrays)} arrays fit none of "
        f"{', '.join(ARCHITECTURES)}. Choose a checkpoint of one of these."
    )


def _layers(module: nn.Module) -> list[tuple[str, nn.Module]]:
    kinds = (nn.Conv3d, nn.Linear, *_NORMS)
    return [(name, m) for name, m in module.named_modules() if isinstance(m, kinds)]


def _shapes(module: nn.Module) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []
    layer: Any
    for _, layer in _layers(module):
        if isinstance(layer, _NORMS):
            shapes += [(layer.num_features,)] * 4
        else:
            weight = tuple(layer.weight.shape)
            shapes += [weight[::-1] if isinstance(layer, nn.Linear) else weight, layer.bias.shape]
    return [tuple(s) for s in shapes]


def _state(module: nn.Module, arrays: tuple[np.ndarray, ...]) -> dict[str, torch.Tensor]:
    state = {}
    rest = iter(arrays)
    for name, layer in _layers(module):
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
