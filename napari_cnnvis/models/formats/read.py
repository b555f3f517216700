"""Checkpoints: what is in a file or folder of any of the kinds that are known.

Reading runs no code from the file unless the caller trusts it.
"""

from __future__ import annotations

import itertools
from pathlib import Path

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.formats.checkpoint_file import CheckpointFile
from napari_cnnvis.models.formats.clinicadl_maps import is_maps, read_maps
from napari_cnnvis.models.formats.monai_bundle import is_bundle, read_bundle
from napari_cnnvis.models.formats.one_file import read_one_file, zip_members
from napari_cnnvis.reading import check_plain

__all__ = ["check_kind", "parts_of", "read_file"]

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
