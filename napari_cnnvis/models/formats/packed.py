"""Checkpoints that are packed by gzip, bzip2, xz or zstd, whatever they are called."""

from __future__ import annotations

import contextlib
import lzma
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from napari_cnnvis.errors import CheckpointError, VolumeError
from napari_cnnvis.reading import unpacks_too_far
from napari_cnnvis.scan.opening import unpacked

__all__ = ["unpacked_copy"]

_ENDINGS = (".gz", ".bz2", ".xz", ".zst")
_PIECE = 1 << 22


@contextlib.contextmanager
def unpacked_copy(path: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """The file itself, or an unpacked copy of it that is gone after the block; and what packed it.

    Raises
    ------
    CheckpointError
        If it is damaged or unpacks to far more than weights can; what the block says of the
        copy is said of the file.
    """
    with contextlib.ExitStack() as stack:
        try:
            stream, packed = stack.enter_context(unpacked(path))
            if not packed:
                copy = path
            else:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                name = path.stem if path.suffix.lower() in _ENDINGS else path.name
                copy = folder / name
                size = 0
                with copy.open("wb") as file:
                    while piece := stream.read(_PIECE):
                        size += file.write(piece)
                        if unpacks_too_far(path.stat().st_size, size):
                            raise CheckpointError(
                                f"{path} has {path.stat().st_size / 1e6:.1f} MB but unpacks to more "
                                f"than {size / 1e9:.1f} GB, which no checkpoint does; it was not opened."
                            )
        except VolumeError as exc:
            raise CheckpointError(str(exc)) from exc
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as exc:
            raise CheckpointError(
                f"{path} cannot be unpacked completely ({exc}); copy or download it again."
            ) from exc
        try:
            yield copy, packed
        except CheckpointError as exc:
            if not packed:
                raise
            raise CheckpointError(str(exc).replace(str(copy), str(path))) from exc
