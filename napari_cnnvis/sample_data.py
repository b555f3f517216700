"""Where the sample scans and checkpoints lie, in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

from napari_cnnvis.errors import VolumeError

__all__ = ["sample_networks", "sample_path"]


def _folders() -> list[Path]:
    package = Path(__file__).parent
    return [package / "_sample_data", package.parent / "sample_data"]


def sample_networks() -> list[Path]:
    """The checkpoints that come with the package."""
    return [path for folder in _folders() for path in sorted(folder.glob("*.safetensors"))]


def sample_path(name: str) -> Path:
    """Path of a file in ``sample_data``.

    Raises
    ------
    VolumeError
        If the installation lacks it.
    """
    for folder in _folders():
        if (folder / name).is_file():
            return folder / name
    raise VolumeError(
        f"The sample file {name} is missing from this installation; install napari-cnnvis again."
    )
