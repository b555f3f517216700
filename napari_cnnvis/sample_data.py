"""Samples: where the scans and checkpoints lie, and a small example made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_cnnvis.errors import VolumeError

if TYPE_CHECKING:
    from napari_cnnvis.models.model import Model
    from napari_cnnvis.scan.volume import Volume

__all__ = ["sample_networks", "sample_path", "small_example"]


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


def small_example() -> tuple[Model, Volume]:
    """A network that finds a bright lesion, and a scan with one; every method takes milliseconds.

    The scan has 24 x 26 x 22 voxels of 2 mm; the lesion is a ball of 6 mm radius about
    voxel (15, 13, 9). The classes are "healthy" and "lesion".

    Returns
    -------
    model : Model
    volume : Volume

    Examples
    --------
    >>> model, volume = small_example()
    >>> model.predict(volume).round(2)
    array([0.04, 0.96], dtype=float32)
    """
    import numpy as np
    import torch
    from torch import nn

    from napari_cnnvis.models.model import Model
    from napari_cnnvis.scan.volume import Volume

    i, j, k = np.ogrid[:24, :26, :22]
    head = ((i - 11.5) / 10) ** 2 + ((j - 12.5) / 11) ** 2 + ((k - 10.5) / 9) ** 2 < 1
    tissue = 0.4 + 0.1 * np.sin(i / 2) * np.cos(j / 3) * np.sin(k / 2 + 1)
    lesion = (i - 15) ** 2 + (j - 13) ** 2 + (k - 9) ** 2 <= 9
    volume = Volume(head * np.where(lesion, 1.0, tissue), np.diag([2.0, 2, 2, 1]), "small example")

    net = nn.Sequential()
    net.add_module("conv", nn.Conv3d(1, 2, 3, padding=1))
    net.add_module("relu", nn.ReLU())
    net.add_module("pool", nn.AdaptiveAvgPool3d(1))
    net.add_module("flatten", nn.Flatten())
    net.add_module("prob", nn.Linear(2, 2))
    with torch.no_grad():  # maps of what is bright, and of what there is
        net.conv.weight.fill_(1 / 27)
        net.conv.bias.copy_(torch.tensor([-0.6, 0.0]))
        net.prob.weight.copy_(torch.tensor([[-2000.0, 4.0], [2000.0, 4.0]]))
        net.prob.bias.copy_(torch.tensor([2.0, -2.0]))
    return Model(net, ["healthy", "lesion"], device="cpu"), volume
