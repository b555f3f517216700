"""Label volumes as folders of PPM slices, the way the 3DUCM program of Yang et al. writes them.

A level is a folder ("00" the finest, "01", ...) of colour images "00001.ppm",
"00002.ppm", ..., one for each slice along the third axis. A region's colour is its
label, red * 65536 + green * 256 + blue, redrawn for each level. Image columns
run along the second axis. Image rows run against the first: the authors' notebooks
flip the segmentation upside down to lay it on the scan, and so does this reader.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image

from napari_cnnvis.errors import VolumeError

__all__ = ["level_folders", "read_slices"]


def level_folders(folder: Path) -> list[Path]:
    """The folder itself if it holds slices, else those in it that do, by their numbers.

    Raises
    ------
    VolumeError
        If there are no slices.
    """
    if _slices(folder):
        return [folder]
    levels = sorted((p for p in folder.glob("[!.]*") if p.is_dir() and _slices(p)), key=_natural)
    if not levels:
        raise VolumeError(
            f"The folder {folder} holds no PPM slices; choose a folder of 00001.ppm, 00002.ppm, "
            "..., or one with such a folder for each level."
        )
    return levels


def read_slices(folder: Path) -> np.ndarray:
    """The labels of one level.

    Returns
    -------
    array, int32, shape (rows, columns, slices)

    Raises
    ------
    VolumeError
        If a slice is missing, damaged, not in colour or of another size than the first.
    """
    paths = sorted(_slices(folder), key=_natural)
    numbers = [re.search(r"\d+$", path.stem) for path in paths]
    found = [int(n[0]) if n else -1 for n in numbers]
    if found != list(range(found[0], found[0] + len(found))) or found[0] < 0:
        raise VolumeError(
            f"The slices in {folder} are not numbered one by one, so some may be missing; "
            "they have to be 00001.ppm, 00002.ppm, ... without a gap."
        )
    slices = [_read_slice(path) for path in paths]
    for path, labels in zip(paths, slices, strict=True):
        if labels.shape != slices[0].shape:
            raise VolumeError(
                f"{path} has {labels.shape} pixels, but the first slice {slices[0].shape}; "
                "all slices of a level have to be of one size."
            )
    return np.stack(slices, axis=2)[::-1]


def _slices(folder: Path) -> list[Path]:
    return [p for p in folder.glob("[!.]*") if p.suffix.lower() == ".ppm" and p.is_file()]


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts "level 9" before "level 10"."""
    return [(int(d or 0), t) for d, t in re.findall(r"(\d*)(\D*)", path.stem)]


def _read_slice(path: Path) -> np.ndarray:
    try:
        with Image.open(path, formats=["PPM"]) as image:
            colours = np.asarray(image, dtype=np.int32)
    except (OSError, ValueError, EOFError, SyntaxError, Image.DecompressionBombError) as exc:
        raise VolumeError(f"{path} is damaged or not a PPM image; copy it again.") from exc
    if colours.ndim != 3:
        raise VolumeError(f"{path} is not a colour image; only those hold labels.")
    red, green, blue = np.moveaxis(colours, 2, 0)
    return red * 65536 + green * 256 + blue
