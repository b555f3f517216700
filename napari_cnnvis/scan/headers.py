"""What the header of an image says of how much is to be read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import nibabel as nib
from nibabel.analyze import AnalyzeImage

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.reading import check_fits
from napari_cnnvis.scan.opening import OpenedImage, unpacked

__all__ = ["check_extensions", "check_size"]

#: gzip shrinks nothing further
_GZIP_RATIO = 1032
#: what lies before the voxels is text and small matrices
_EXTENSION_LIMIT = 64_000_000


def check_extensions(path: Path) -> None:
    """Look at how much lies before the voxels of a NIfTI, before nibabel reads all of it.

    Raises
    ------
    VolumeError
        If it is no header of a scan.
    """
    with unpacked(path) as (file, _):
        start = file.read(544)
        small_first = start[:4] in (b"\x5c\1\0\0", b"\x1c\2\0\0")
        order: Literal["little", "big"] = "little" if small_first else "big"
        size = int.from_bytes(start[:4], order)
        if size not in (348, 540) or len(start) < size + 4 or not start[size]:
            return
        place = size + 4
        while True:
            file.seek(place)
            length = int.from_bytes(file.read(8)[:4], order, signed=True)
            if length < 16:  # the voxels, or nothing
                return
            place += length
            if place > _EXTENSION_LIMIT:
                raise VolumeError(
                    f"{path} says that {place / 1e6:.0f} MB lie before its voxels, which is no header "
                    "of a scan. Copy or convert it again."
                )


def check_size(opened: OpenedImage, path: Path) -> int:
    """Compare what the header asks for with the file and the memory; bytes up to the last voxel.

    Raises
    ------
    VolumeError
        If the file cannot hold so many voxels, or the memory cannot.
    """
    image = opened.image
    n_voxels = math.prod(int(n) for n in image.shape)
    stored = n_voxels * image.get_data_dtype().itemsize
    end = stored + int(getattr(image.dataobj, "offset", 0))
    if isinstance(image, AnalyzeImage | nib.MGHImage) and set(opened.packed) <= {"gzip"}:
        size = opened.voxels.stat().st_size
        if end > size * _GZIP_RATIO ** len(opened.packed):
            raise VolumeError(
                f"{path} is damaged or incomplete: its header asks for {end:,} bytes, and the file "
                f"has {size:,}{' (packed)' if opened.packed else ''}. Copy it again."
            )
    check_fits(stored + 8 * n_voxels, path)
    return end
