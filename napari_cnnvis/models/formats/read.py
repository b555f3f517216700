"""Checkpoints: what is in a file or folder of any of the kinds that are known.

Reading runs no code from the file unless the caller trusts it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.formats.checkpoint_file import CheckpointFile
from napari_cnnvis.models.formats.clinicadl_maps import is_maps, read_maps
from napari_cnnvis.models.formats.monai_bundle import is_bundle, read_bundle
from napari_cnnvis.models.formats.one_file import read_one_file, zip_members
from napari_cnnvis.reading import check_plain

__all__ = ["check_kind", "parts_of", "read_file", "read_files"]

#: where a bundle or MAPS has its files, and how many are looked at
_PARTS = ("*.json", "configs/*", "models/*", "best-*/*", "split-*/best-*/*", "fold-*/best-*/*")
_MOST_PARTS = 10_000


def read_file(path: Path, trust: bool = False) -> CheckpointFile:
    """Read a checkpoint by its content's kind.

    Parameters
    ----------
    path : Path
        ``.safetensors``, ``.npz``, ``.pt2``, TorchScript, a PyTorch file (``.pt``,
        ``.pth``, ``.ckpt``, ...), or a folder or zip of a MONAI bundle, or a ClinicaDL
        MAPS folder.
    trust : bool
        Allow a PyTorch file to run the Python code in it.

    Raises
    ------
    CheckpointError
        If it is missing, damaged, of another kind, or would run code.
    """
    if check_kind(path).is_dir():
        return read_bundle(path, trust) if is_bundle(path) else read_maps(path, trust=trust)
    if zip_members(path) and is_bundle(path):
        return read_bundle(path, trust)
    if is_maps(path):
        return read_maps(path, trust=trust)
    return read_one_file(path, trust)


def read_files(paths: Sequence[Path], trust: bool = False) -> CheckpointFile:
    """Read a checkpoint whose weights lie in one file, or in several that make one network together.

    Parameters
    ----------
    paths : sequence of Path
        Such as a backbone's and a head's.
    trust : bool
        As for `read_file`.

    Raises
    ------
    CheckpointError
        As `read_file`; or if one of several files is no set of weights by name.
    """
    first, *others = (read_file(path, trust) for path in paths)
    if not others:
        return first
    files = (first, *others)
    whole = next((file for file in files if not file.state), None)
    if whole is not None:
        raise CheckpointError(
            f"{whole.path} ({whole.kind}) holds a network or arrays, not a part of a network's weights; "
            "load it by itself."
        )
    names = [_name_of(file.path, n) for n, file in enumerate(files)]
    parts = dict(zip(_unlike(names), (file.state for file in files), strict=True))
    apart = sum(len(part) for part in parts.values())
    state = {key: tensor for part in parts.values() for key, tensor in part.items()}
    if len(state) < apart:
        state = {f"{n}.{key}": t for n, part in parts.items() for key, t in part.items()}
    return replace(
        first,
        state=state,
        parts=parts,
        others={},
        pickled="",
        more_paths=tuple(file.path for file in others),
        header={k: v for file in reversed(files) for k, v in file.header.items()},
        notes=tuple(f"{file.path.name}: {note}" for file in files for note in file.notes),
    )


def _name_of(path: Path, number: int) -> str:
    return path.name.partition(".")[0] or str(number)


def _unlike(names: list[str]) -> list[str]:
    """Names, numbered where some are the same."""
    if len(set(names)) == len(names):
        return names
    return [f"{name} {number}" for number, name in enumerate(names, 1)]


def check_kind(path: Path) -> Path:
    """The path, if it is a plain file or a folder that can be read; nothing is opened.

    Raises
    ------
    CheckpointError
        If it is missing, empty, a pipe or a device, or a folder of another kind.
    """
    if not path.is_dir():
        return check_plain(path, "a checkpoint file", CheckpointError)
    if is_bundle(path) or is_maps(path):
        return path
    raise CheckpointError(
        f"{path} is a folder, but neither a MONAI bundle (configs and models) nor a ClinicaDL "
        "MAPS (maps.json); choose the checkpoint file in it."
    )


def parts_of(folder: Path) -> list[Path]:
    """The files of a bundle or MAPS that say what is loaded from it; other folders are not walked."""
    found = (path for pattern in _PARTS for path in folder.glob(pattern))
    return sorted(path for path in itertools.islice(found, _MOST_PARTS) if path.is_file())
