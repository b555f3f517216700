"""Checkpoints that are one file: weights in any wrapper, arrays, programs, pickled networks."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.formats.checkpoint_file import HEADER_KEY, CheckpointFile, check_header
from napari_cnnvis.models.formats.lasagne import read_lasagne
from napari_cnnvis.models.formats.pickles import StandIn, load_pickle, modules_state
from napari_cnnvis.reading import check_plain, unpacks_too_far

__all__ = ["read_one_file", "read_pytorch", "zip_members"]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
_PREFIXES = ("module.", "model.", "net.", "_orig_mod.")
#: so many dictionaries in one another are looked into
_DEEPEST = 20


def read_one_file(path: Path, trust: bool = False) -> CheckpointFile:
    """Read a checkpoint that is one file by itself, no bundle and no folder.

    Parameters
    ----------
    path : Path
        ``.safetensors``, ``.npz``, ``.pt2``, TorchScript, or a PyTorch file.
    trust : bool
        Allow a PyTorch file to run the Python code in it.

    Raises
    ------
    CheckpointError
        If it is missing, damaged, of another kind, or would run code.
    """
    check_plain(path, "a checkpoint file", CheckpointError)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    members = zip_members(path)
    if path.suffix == ".npz":
        return CheckpointFile(path, arrays=read_lasagne(path), kind="Lasagne arrays")
    return _read_program(path, members) or read_pytorch(path, trust)


def zip_members(path: Path) -> list[str]:
    """Names of the files in a zip, [] for another file.

    Raises
    ------
    CheckpointError
        If what is in it is much too large to be weights.
    """
    if not zipfile.is_zipfile(path):
        return []
    try:
        with zipfile.ZipFile(path) as file:
            infos = file.infolist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return []
    inside = sum(info.file_size for info in infos)
    if unpacks_too_far(path.stat().st_size, inside):
        raise CheckpointError(
            f"{path} has {path.stat().st_size / 1e6:.1f} MB but unpacks to {inside / 1e9:.1f} GB, "
            "which no checkpoint does; it was not opened."
        )
    return [info.filename for info in infos]


def _read_program(path: Path, members: list[str]) -> CheckpointFile | None:
    """A TorchScript or exported program, or None if the file is none."""
    exported = any(
        m.endswith(("models/model.json", "serialized_exported_program.json")) for m in members
    )
    if exported or path.suffix == ".pt2":
        from napari_cnnvis.models.formats.programs import read_exported

        module, header, notes = read_exported(path)
        return CheckpointFile(
            path, module=module, header=header, notes=notes, kind="exported program"
        )
    if any(m.endswith("constants.pkl") for m in members):
        from napari_cnnvis.models.formats.programs import read_torchscript

        module, notes = read_torchscript(path)
        return CheckpointFile(path, module=module, notes=notes, kind="TorchScript program")
    return None


def _read_safetensors(path: Path) -> CheckpointFile:
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = json.loads((file.metadata() or {}).get(HEADER_KEY, "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError) as exc:
        raise CheckpointError(
            f"{path} is not a complete safetensors file; copy or download it again."
        ) from exc
    if not state:
        raise CheckpointError(f"{path} holds no weights; save the checkpoint again.")
    return CheckpointFile(path, state, header=check_header(header, path), kind="safetensors")


def read_pytorch(path: Path, trust: bool) -> CheckpointFile:
    """A PyTorch file: a state dict in any wrapper, or a whole pickled network.

    Raises
    ------
    CheckpointError
        If it cannot be read, holds no weights, or would run code.
    """
    zip_members(path)
    content, not_run = load_pickle(path, trust)
    header, kind = {}, "PyTorch state dict"
    if isinstance(content, dict) and "pytorch-lightning_version" in content:
        kind, header = "Lightning checkpoint", _lightning_header(content)
    content, notes = _unwrapped(content)
    if isinstance(content, nn.Module):
        return CheckpointFile(
            path, module=content, notes=(*notes, "a whole pickled network"), kind="pickled network"
        )
    pickled = ""
    if isinstance(content, StandIn):
        pickled = content.stands_for
        content = modules_state(content)
        notes += (f"a whole pickled network ({pickled}), of which only the weights were read",)
        kind = "pickled network"
    elif not_run:
        notes += (f"settings left out, their code was not run: {', '.join(not_run[:4])}",)
    state = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if not state:
        raise CheckpointError(
            f"{path} holds no weights by name"
            + (f", but Python objects ({not_run[0]}) that would run on loading" if not_run else "")
            + "; save model.state_dict() of the network."
            + (" If you trust where it comes from, load it with trust=True." if not_run else "")
        )
    odd = next((k for k, v in state.items() if not _is_plain(v)), None)
    if odd is not None:
        raise CheckpointError(
            f"{path} holds weights that are not plain numbers ({odd} is sparse, quantised, complex or "
            "without values); save model.state_dict() of the network as it was trained."
        )
    while prefix := next((p for p in _PREFIXES if all(k.startswith(p) for k in state)), None):
        state = {k.removeprefix(prefix): v for k, v in state.items()}
        notes += (f"prefix '{prefix}' removed from the names",)
    return CheckpointFile(path, state, header=header, notes=notes, kind=kind, pickled=pickled)


def _is_plain(tensor: torch.Tensor) -> bool:
    odd = tensor.is_quantized or tensor.is_complex() or tensor.is_meta
    return tensor.layout == torch.strided and not odd


def _unwrapped(content: Any) -> tuple[Any, tuple[str, ...]]:
    """The state dict, or the network, inside wrappers such as {"state_dict": ...}."""
    notes: tuple[str, ...] = ()
    while isinstance(content, dict) and not _is_network(content):
        if content and all(isinstance(v, torch.Tensor) for v in content.values()):
            break
        inner = next((k for k in _WRAPPERS if isinstance(content.get(k), dict | nn.Module)), None)
        if inner is None:
            break
        if len(notes) == _DEEPEST:
            return {}, notes  # a dictionary that holds itself has no end
        content = content[inner]
        notes += (f"weights taken from its entry '{inner}'",)
    return content if isinstance(content, dict | nn.Module) else {}, notes


def _is_network(content: Any) -> bool:
    return isinstance(content, StandIn) and isinstance(content.__dict__.get("_modules"), dict)


def _lightning_header(content: dict[str, Any]) -> dict[str, Any]:
    """Class names from a Lightning checkpoint's settings, if they are there."""
    settings = content.get("hyper_parameters")
    if not isinstance(settings, dict):
        return {}
    for key in ("class_names", "classes", "labels"):
        names = settings.get(key)
        if isinstance(names, list | tuple) and names and all(isinstance(n, str) for n in names):
            return {"class_names": list(names)}
    return {}
