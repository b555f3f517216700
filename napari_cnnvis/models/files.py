"""Checkpoint files: what is in a safetensors, PyTorch or Lasagne ``.npz`` file.

Reading runs no code from the file unless the caller trusts it.
"""

from __future__ import annotations

import json
import pickle
import pickletools
import warnings
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.volume import atomic_path

__all__ = ["CheckpointFile", "read_file", "write_safetensors"]

#: key of the JSON header in a safetensors file's metadata
HEADER_KEY = "napari-cnnvis"
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
_PREFIXES = ("module.", "model.", "net.", "_orig_mod.")


@dataclass(frozen=True)
class CheckpointFile:
    """What a file holds: named tensors, or Lasagne's unnamed arrays, or a whole module.

    ``header`` is the project's own (empty for other files); ``notes`` say what was undone.
    """

    path: Path
    state: dict[str, torch.Tensor] = field(default_factory=dict)
    arrays: tuple[np.ndarray, ...] = ()
    module: nn.Module | None = None
    header: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_file(path: Path, trust: bool = False) -> CheckpointFile:
    """Read a checkpoint file by its content's kind.

    Parameters
    ----------
    path : Path
        ``.safetensors``, ``.npz``, or a PyTorch file (``.pt``, ``.pth``, ``.ckpt``, ...).
    trust : bool
        Allow a PyTorch file to run the Python code in it.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, of another kind, or would run code.
    """
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; choose the checkpoint file in it.")
    if not path.exists():
        raise CheckpointError(f"There is no file {path}; check its name and folder.")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty (0 bytes); copy or download it again.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix == ".npz":
        return _read_lasagne(path)
    return _read_pytorch(path, trust)


def _read_safetensors(path: Path) -> CheckpointFile:
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = json.loads((file.metadata() or {}).get(HEADER_KEY, "{}"))
    except (SafetensorError, OSError, ValueError) as exc:
        raise CheckpointError(
            f"{path} is not a complete safetensors file; copy or download it again."
        ) from exc
    if not (
        isinstance(header, dict)
        and isinstance(header.get("class_names", []), list)
        and isinstance(header.get("training", {}), dict)
    ):
        raise CheckpointError(f"The header of {path} is damaged; save the checkpoint again.")
    return CheckpointFile(path, state, header=header)


def write_safetensors(path: Path, state: dict[str, torch.Tensor], header: dict[str, Any]) -> None:
    """Write tensors with the project's JSON header, moved into place when complete."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in state.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={HEADER_KEY: json.dumps(header, sort_keys=True)})


def _read_lasagne(path: Path) -> CheckpointFile:
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
            arrays = tuple(file[f"arr_{n}"] for n in range(len(names)))
    except CheckpointError:
        raise
    except KeyError as exc:
        raise CheckpointError(f"{path} misses the array {exc}; copy it again.") from exc
    except (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as exc:
        if "pickle" in str(exc):
            raise CheckpointError(
                f"{path} holds Python objects, which would run code on loading; save plain "
                "arrays with numpy.savez instead."
            ) from exc
        raise CheckpointError(
            f"{path} is not a complete .npz file; copy or download it again."
        ) from exc
    return CheckpointFile(path, arrays=arrays)


def _read_pytorch(path: Path, trust: bool) -> CheckpointFile:
    _refuse_torchscript(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's guesses about foreign pickles
            content = torch.load(path, map_location="cpu", weights_only=not trust)
    except Exception as exc:  # a damaged pickle can raise anything
        if isinstance(exc, pickle.UnpicklingError) and _names_code(path, str(exc)):
            raise CheckpointError(
                f"{path} holds more than weights: Python code or objects that would run on "
                "loading. Save model.state_dict() instead, or, if you trust where it comes from, "
                "load it with trust=True."
            ) from exc
        raise CheckpointError(
            f"{path} is not a checkpoint that can be read (safetensors, PyTorch state dict or "
            "Lasagne .npz), or it is incomplete; copy or download it again."
        ) from exc
    if isinstance(content, nn.Module):
        return CheckpointFile(path, module=content, notes=("a whole pickled network was loaded",))
    state, notes = _unwrap(content, path)
    return CheckpointFile(path, state, notes=notes)


def _names_code(path: Path, message: str) -> bool:
    """Whether a file that torch refused does so because it names code to call."""
    if "GLOBAL" in message:
        return True
    try:
        with path.open("rb") as file:
            return any("GLOBAL" in op.name for op, _, _ in pickletools.genops(file))
    except (ValueError, OSError):
        return False


def _refuse_torchscript(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except zipfile.BadZipFile:  # torch.load says so
        return
    if any(n.endswith("constants.pkl") for n in names):
        raise CheckpointError(
            f"{path} is a TorchScript program, which cannot be explained layer by layer; save "
            "model.state_dict() of the original network instead."
        )


def _unwrap(content: Any, path: Path) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """The state dict inside wrappers such as {"state_dict": ...}, without common prefixes."""
    notes = []
    while isinstance(content, dict):
        if content and all(isinstance(v, torch.Tensor) for v in content.values()):
            break
        inner = next((k for k in _WRAPPERS if isinstance(content.get(k), dict)), None)
        if inner is None:
            content = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}
            break
        content = content[inner]
        notes.append(f"weights taken from its entry '{inner}'")
    if not isinstance(content, dict) or not content:
        raise CheckpointError(
            f"{path} holds no weights by name; save model.state_dict() of the network."
        )
    state = {str(k): v for k, v in content.items()}
    while prefix := next((p for p in _PREFIXES if all(k.startswith(p) for k in state)), None):
        state = {k.removeprefix(prefix): v for k, v in state.items()}
        notes.append(f"prefix '{prefix}' removed from the names")
    return state, tuple(notes)
