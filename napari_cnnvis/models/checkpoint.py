"""Checkpoint file -> Model, and Model -> the project's own safetensors file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from napari_cnnvis.conform import InputSpec
from napari_cnnvis.errors import CheckpointError, VolumeError
from napari_cnnvis.models.architectures import (
    ARCHITECTURES,
    build,
    from_lasagne,
    load_weights,
    recognise,
)
from napari_cnnvis.models.files import CheckpointFile, read_file, write_safetensors
from napari_cnnvis.models.model import Model

__all__ = ["load_model", "save_model"]


def load_model(
    path: str | os.PathLike,
    device: str = "auto",
    arch: nn.Module | str | None = None,
    class_names: Sequence[str] | None = None,
    input_spec: InputSpec | None = None,
    trust: bool = False,
) -> Model:
    """Load a checkpoint; the architecture is recognised from the file.

    Parameters
    ----------
    path : path-like
        The project's ``.safetensors``, a PyTorch state dict (``.pt``, ``.pth``,
        ``.ckpt``; Lightning and ``state_dict`` wrappers, ``module.`` and ``model.``
        prefixes are undone), or the reference's Lasagne ``.npz``.
    device : str
        "auto" (a GPU where there is one), "cpu", "cuda", ...
    arch : nn.Module or str, optional
        The network that the weights belong to, or the name of a built-in one.
    class_names : sequence of str, optional
        Instead of those in the file.
    input_spec : InputSpec, optional
        Instead of that in the file. Where neither says anything: the volume as
        stored, divided by its maximum, padded or cropped about its centre only if
        the network needs a fixed size.
    trust : bool
        Load a file that runs Python code on loading.

    Returns
    -------
    Model

    Raises
    ------
    CheckpointError
        If the file cannot be read, or belongs to another network.
    ComputeError
        If the device does not exist.
    """
    path = Path(path)
    file = read_file(path, trust)
    name, module = _module(file, arch)
    header = file.header
    if input_spec is None:
        input_spec = _input_spec(header, module, path)
    channels = next((m.in_channels for m in module.modules() if isinstance(m, nn.Conv3d)), 1)
    if channels != 1:
        raise CheckpointError(
            f"{path} is a {name} for {channels} input channels; only nets for one channel can be "
            "used so far."
        )
    return Model(
        module,
        class_names or header.get("class_names"),
        input_spec,
        device,
        architecture=name,
        training=header.get("training"),
        notes=file.notes,
    )


def _module(file: CheckpointFile, arch: nn.Module | str | None) -> tuple[str, nn.Module]:
    if file.module is not None:
        return type(file.module).__name__, file.module
    if file.arrays:
        return from_lasagne(file.arrays, file.path)
    if isinstance(arch, nn.Module):
        load_weights(arch, file.state, type(arch).__name__, file.path)
        return type(arch).__name__, arch
    architecture = file.header.get("architecture")
    if isinstance(arch, str):
        module = build(arch)
        load_weights(module, file.state, arch, file.path)
        return arch, module
    if isinstance(architecture, dict) and architecture.get("name") in ARCHITECTURES:
        module = build(architecture["name"], architecture.get("arguments"))
        load_weights(module, file.state, architecture["name"], file.path)
        return architecture["name"], module
    return recognise(file.state, file.path)


def _input_spec(header: dict[str, Any], module: nn.Module, path: Path) -> InputSpec:
    stored = header.get("input")
    if not stored:
        return InputSpec(shape=getattr(module, "required_shape", None))
    try:
        return InputSpec(**stored)
    except VolumeError as exc:
        raise CheckpointError(f"The header of {path} describes its input wrongly: {exc}") from exc
    except (TypeError, ValueError) as exc:
        raise CheckpointError(
            f"The header of {path} describes its input wrongly ({stored}); save the checkpoint again."
        ) from exc


def save_model(
    module: nn.Module,
    path: str | os.PathLike,
    class_names: Sequence[str],
    input_spec: InputSpec,
    training: dict[str, Any] | None = None,
) -> Path:
    """Write a built-in network as the project's own safetensors file.

    Parameters
    ----------
    module : VoxVGG, VoxResNet or VoxResNetGAP
    path : path-like
        Ends in ``.safetensors``; written beside it and moved into place.
    class_names : sequence of str
        One for each output.
    input_spec : InputSpec
        What the network was trained on.
    training : dict, optional
        The training record, of plain values.

    Raises
    ------
    CheckpointError
        If the module is not a built-in network, the number of class names is another
        one, or the path ends otherwise.
    VolumeError
        If the folder does not exist or cannot be written to.
    """
    path = Path(path)
    name = type(module).__name__
    if name not in ARCHITECTURES:
        raise CheckpointError(f"Only {', '.join(ARCHITECTURES)} can be saved, not {name}.")
    if path.suffix != ".safetensors":
        raise CheckpointError(f"Call the file {path.stem}.safetensors, not {path.name}.")
    n_classes = module.get_submodule("prob").out_features
    if len(class_names) != n_classes:
        raise CheckpointError(
            f"{len(class_names)} class names were given for {n_classes} outputs of {name}; give one "
            "name for each."
        )
    header = {
        "version": 1,
        "architecture": {
            "name": name,
            "arguments": {
                "in_channels": module.get_submodule("conv1a").in_channels,
                "n_classes": n_classes,
            },
        },
        "class_names": list(class_names),
        "input": input_spec.to_dict(),
        "training": training or {},
    }
    write_safetensors(path, module.state_dict(), header)
    return path
