"""Which axes of a file are those of a volume, and which count its volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_cnnvis.errors import VolumeError

__all__ = ["one_volume", "volumes_of"]


def volumes_of(data: np.ndarray, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """The volumes of a file: axes of length one are dropped, and further ones made into one.

    Parameters
    ----------
    data : array, shape (i, j, k, ...)
        As stored: (i, j, k, 1, n) is a volume of n values a voxel, as ITK writes it; in
        (1, i, j, k) the channel comes first, as in PyTorch.
    path : Path
        Its file, for errors and notes.

    Returns
    -------
    array, shape (i, j, k) or (i, j, k, n)
        Of less than three axes as it is.
    tuple of str
        What was dropped, if that may mislead.

    Raises
    ------
    VolumeError
        If an axis of length one comes first, and several volumes follow.
    """
    shape: tuple[int, ...] = data.shape
    data = data.reshape(shape[:3] + tuple(n for n in shape[3:] if n != 1))
    if data.ndim <= 3:
        return data, ()
    left = tuple(n for n in shape if n != 1)
    if len(left) == 3:
        note = (
            f"{path.name} has the shape {_size(shape)}; the axis of length 1 is left out, and the other "
            "three are taken for those that its voxel size and position are about."
        )
        return data.reshape(left), (note,)
    if data.shape[0] == 1:
        raise VolumeError(
            f"{path} has the shape {_size(shape)}, with channels before the axes of space. Image files "
            "have them last: save it as i x j x k x channels, or a file for each channel."
        )
    return data.reshape(*data.shape[:3], -1, order="F"), ()


def one_volume(
    data: np.ndarray, index: int | None, path: Path
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The one volume of a file, or that of an index, and what to say of its axes.

    Raises
    ------
    VolumeError
        If it holds several and none was chosen, or the one chosen is not there.
    """
    volumes, notes = volumes_of(data, path)
    if index is None:
        if volumes.ndim > 3:
            raise VolumeError(
                f"{path} holds {volumes.shape[-1]} volumes (4D); choose one by its number, the first as "
                f"{path.name}#0, or in Python with read_volume(path, index=0)."
            )
        return volumes, notes
    n_volumes = 1 if volumes.ndim <= 3 else int(volumes.shape[-1])
    if not 0 <= index < n_volumes:
        there = f"volumes 0 to {n_volumes - 1}" if n_volumes > 1 else "one volume, number 0"
        raise VolumeError(f"{path} has {there}; {index} is not one.")
    return volumes if volumes.ndim <= 3 else volumes[..., index], notes


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
