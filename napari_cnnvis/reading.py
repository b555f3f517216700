"""What may be read: plain files, of a size that the machine can hold."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from napari_cnnvis.errors import CnnVisError, VolumeError

__all__ = ["check_fits", "check_plain", "read_small", "source_file", "unpacks_too_far"]

#: a JSON beside a map or picture is no larger
_SMALL = 64_000_000
#: what is so much larger unpacked than packed, and larger than this, is no data
_LARGEST_RATIO, _LARGE = 200, 500_000_000


def check_plain(
    path: str | os.PathLike, choose: str, error: type[CnnVisError] = VolumeError
) -> Path:
    """The path, if there is a plain file; nothing is opened, so that a pipe cannot block.

    Parameters
    ----------
    path : path-like
    choose : str
        What to choose instead, such as "an image file such as scan.nii.gz".
    error : type
        Of the exception.

    Raises
    ------
    CnnVisError
        If there is no file, an empty one, a folder, a pipe, a socket or a device.
    """
    path = Path(path)
    try:
        about = path.stat()
    except (OSError, ValueError) as exc:
        raise error(f"There is no file {path}; check its name and folder.") from exc
    kinds = {
        "a folder": stat.S_ISDIR,
        "a pipe": stat.S_ISFIFO,
        "a socket": stat.S_ISSOCK,
        "a device": lambda mode: not stat.S_ISREG(mode),
    }
    what = next((what for what, fits in kinds.items() if fits(about.st_mode)), None)
    if what is not None:
        raise error(f"{path} is {what}; choose {choose}.")
    if about.st_size == 0:
        raise error(f"{path} is empty (0 bytes); copy or download it again.")
    return path


def check_fits(
    n_bytes: float, path: str | os.PathLike, error: type[CnnVisError] = VolumeError
) -> None:
    """Raise if what a file says that it holds is more than the memory that is free."""
    import psutil

    free = psutil.virtual_memory().available
    if n_bytes > free:
        raise error(
            f"{path} takes {n_bytes / 1e9:.3g} GB of memory, and {free / 1e9:.3g} GB are free. Close "
            "other programs, or check that it is the file you mean."
        )


def unpacks_too_far(packed: int, unpacked: int) -> bool:
    """Whether a packed file is made to fill the memory: no data shrinks so far."""
    return unpacked > _LARGE and unpacked > _LARGEST_RATIO * packed


def read_small(path: Path) -> str:
    """The text of a JSON beside something else.

    Raises
    ------
    OSError, ValueError
        If there is no plain file, or it is not text, or too much for one.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    if path.stat().st_size > _SMALL:
        raise ValueError("too long")
    return path.read_text(encoding="utf-8")


def source_file(source: str) -> tuple[str, int | None]:
    """The file of a volume's `source`, and which volume of it; None for the only one."""
    name, mark, number = source.rpartition("#")
    if mark and number.isdecimal() and len(number) < 10 and not os.path.exists(source):
        return name, int(number)
    return source, None
