"""What every format gives, and the project's own header."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.writing import atomic_path, check_output

__all__ = ["HEADER_KEY", "HEADER_PARTS", "CheckpointFile", "check_header", "write_safetensors"]

#: key of the JSON header in a safetensors file's metadata
HEADER_KEY = "napari-cnnvis"
#: what a header may hold, and of which type it has to be
HEADER_PARTS: dict[str, type | tuple[type, ...]] = {
    "version": int,
    "architecture": (dict, str),
    "class_names": list,
    "input": dict,
    "output": str,
    "scores": str,
    "extra": dict,
    "training": dict,
}


@dataclass(frozen=True)
class CheckpointFile:
    """What a file holds: named tensors, or Lasagne's unnamed arrays, or a whole module.

    ``kind`` says what it is; ``header`` is the project's own, or what could be taken
    from a file of another kind (empty where nothing is known); ``notes`` say what was
    undone; ``pickled`` is the class of a whole pickled network of which only the
    weights were read, ``code_error`` why its code failed though it was trusted. ``others`` are further sets of weights in the same file, by the keys
    that lead to them; ``parts`` are those of several files that make one network together,
    by the files' names, ``more_paths`` where these lie besides the first.
    """

    path: Path
    state: dict[str, torch.Tensor] = field(default_factory=dict)
    arrays: tuple[np.ndarray, ...] = ()
    module: nn.Module | None = None
    header: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    kind: str = ""
    pickled: str = ""
    code_error: str = ""
    others: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    parts: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    more_paths: tuple[Path, ...] = ()

    @property
    def label(self) -> str:
        """Its path; of several files, all of them."""
        return " with ".join(map(str, (self.path, *self.more_paths)))


def check_header(header: Any, path: Any) -> dict[str, Any]:
    """A JSON header whose parts are of the types they have to be.

    Raises
    ------
    CheckpointError
        If it is not.
    """
    good = isinstance(header, dict) and all(
        isinstance(header[part], kind) for part, kind in HEADER_PARTS.items() if part in header
    )
    if not good:
        raise CheckpointError(f"The header of {path} is damaged; save the checkpoint again.")
    return header


def write_safetensors(
    path: Path, state: dict[str, torch.Tensor], header: dict[str, Any], overwrite: bool = False
) -> None:
    """Write tensors with the project's JSON header, moved into place when complete.

    Raises
    ------
    VolumeError
        If it cannot be written, or is there and `overwrite` is not said.
    """
    check_output(path, overwrite=overwrite)
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in state.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={HEADER_KEY: json.dumps(header, sort_keys=True)})
