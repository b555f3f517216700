"""Checkpoints that are one file: weights in any wrapper, arrays, programs, pickled networks."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from napari_cnnvis.errors import CheckpointError, some_of
from napari_cnnvis.models.formats.checkpoint_file import HEADER_KEY, CheckpointFile, check_header
from napari_cnnvis.models.formats.entries import Found, entry_names, weights_in
from napari_cnnvis.models.formats.lasagne import read_lasagne
from napari_cnnvis.models.formats.packed import unpacked_copy
from napari_cnnvis.models.formats.pickles import StandIn, load_pickle, modules_state
from napari_cnnvis.models.weight_names import without_common_prefix
from napari_cnnvis.reading import check_plain, unpacks_too_far

__all__ = ["read_one_file", "read_pytorch", "zip_members"]


def read_one_file(path: Path, trust: bool = False) -> CheckpointFile:
    """Read a checkpoint that is one file by itself, no bundle and no folder.

    Parameters
    ----------
    path : Path
        ``.safetensors``, ``.npz``, ``.pt2``, ``.onnx``, TorchScript, or a PyTorch file.
    trust : bool
        Allow a PyTorch file to run the Python code in it.

    Raises
    ------
    CheckpointError
        If it is missing, damaged, of another kind, or would run code.
    """
    check_plain(path, "a checkpoint file", CheckpointError)
    with unpacked_copy(path) as (plain, packed):
        file = _read_plain(plain, trust)
    notes = (f"unpacked ({', '.join(packed)})",) if packed else ()
    return replace(file, path=path, notes=(*notes, *file.notes))


def _read_plain(path: Path, trust: bool) -> CheckpointFile:
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix == ".onnx":
        from napari_cnnvis.models.formats.onnx_file import read_onnx

        module, header, notes = read_onnx(path)
        return CheckpointFile(path, module=module, header=header, notes=notes, kind="ONNX program")
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
    header = check_header(header, path)
    state, notes = without_common_prefix(state)
    return CheckpointFile(path, state, header=header, notes=notes, kind="safetensors")


def read_pytorch(path: Path, trust: bool) -> CheckpointFile:
    """A PyTorch file: a state dict in any wrapper, or a whole pickled network.

    Raises
    ------
    CheckpointError
        If it cannot be read, holds no weights, or would run code.
    """
    zip_members(path)
    content, not_run, code_error = load_pickle(path, trust)
    notes: tuple[str, ...] = ()
    if code_error:
        notes = ("its Python code failed, so that only its weights were read",)
    header, kind = {}, "PyTorch state dict"
    if isinstance(content, dict) and "pytorch-lightning_version" in content:
        kind, header = "Lightning checkpoint", _lightning_header(content)
    found = weights_in(content)
    if not found:
        raise CheckpointError(_no_weights(path, content, not_run))
    place = next(iter(found))
    if place:
        notes += (f"weights taken from its entry '{place}'",)
    first = found.pop(place)
    others = {key: state for key, one in found.items() if _could_be(state := _state_of(one))}
    if others:
        names = some_of(f"'{other}'" for other in others)
        notes += (f"there are other weights in {names}",)
    if isinstance(first, nn.Module):
        return CheckpointFile(
            path, module=first, notes=(*notes, "a whole pickled network"), kind="pickled network"
        )
    pickled = ""
    if isinstance(first, StandIn):
        pickled, kind = first.stands_for, "pickled network"
        notes += (f"a whole pickled network ({pickled}), of which only the weights were read",)
    elif not_run:
        notes += (f"settings left out, their code was not run: {', '.join(not_run[:4])}",)
    state, removed = without_common_prefix(_checked(_state_of(first), path))
    return CheckpointFile(
        path,
        state,
        header=header,
        notes=(*notes, *removed),
        kind=kind,
        pickled=pickled,
        code_error=code_error,
        others=others,
    )


def _no_weights(path: Path, content: Any, not_run: tuple[str, ...]) -> str:
    names = some_of(f"'{name}'" for name in entry_names(content))
    entries = f" (it has the entries {names})" if entry_names(content) else ""
    objects = f", but Python objects ({not_run[0]}) that would run on loading" if not_run else ""
    return (
        f"{path} holds no weights by name{entries}{objects}; save model.state_dict() of the network."
        + (" If you trust where it comes from, load it with trust=True." if not_run else "")
    )


def _state_of(found: Found) -> dict[str, torch.Tensor]:
    if isinstance(found, nn.Module):
        return found.state_dict()
    return modules_state(found) if isinstance(found, StandIn) else found


def _could_be(state: dict[str, torch.Tensor]) -> bool:
    """Whether a set of tensors can be a network's, and not settings or results."""
    return all(map(_is_plain, state.values())) and any(t.ndim >= 2 for t in state.values())


def _checked(state: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    odd = next((k for k, v in state.items() if not _is_plain(v)), None)
    if odd is not None:
        raise CheckpointError(
            f"{path} holds weights that are not plain numbers ({odd} is sparse, quantised, complex or "
            "without values); save model.state_dict() of the network as it was trained."
        )
    return state


def _is_plain(tensor: torch.Tensor) -> bool:
    odd = tensor.is_quantized or tensor.is_complex() or tensor.is_meta
    return tensor.layout == torch.strided and not odd


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
