"""What may be read: plain files, of a size that the machine can hold."""

from __future__ import annotations

import gzip
import json
import os
import re
import stat
import zlib
from pathlib import Path

from napari_cnnvis.errors import CnnVisError, VolumeError, shortened

__all__ = [
    "check_content",
    "check_fits",
    "check_plain",
    "decoded",
    "is_gzip",
    "read_small",
    "source_file",
    "unpacks_too_far",
]

#: a JSON beside a map or picture is no larger
_SMALL = 64_000_000
#: what is so much larger unpacked than packed, and larger than this, is no data
_LARGEST_RATIO, _LARGE = 200, 500_000_000
#: so much of a file is looked at to see what it is
_START = 2048
_LFS = re.compile(rb"version https?://(git-lfs|hawser)\.github\.com/spec/")
_ANNEX = re.compile(rb"[./\\]*([^\n]{0,200}[/\\])?annex[/\\]objects[/\\]")
#: what may come before the first tag of a page
_PROLOGUE = re.compile(rb"\s*(<\?xml[^>]*\?>\s*|<!--.*?-->\s*)*", re.DOTALL)
_PAGE = re.compile(rb"<(!doctype\s+html|html|head|body|title|meta|script)\b", re.IGNORECASE)
_REFUSAL = re.compile(rb"<(error|response|message)\b", re.IGNORECASE)
#: by which a server's answer in JSON says that it is one
_REFUSAL_KEYS = {"error", "errors", "message", "detail"}


def check_plain(
    path: str | os.PathLike, choose: str, error: type[CnnVisError] = VolumeError
) -> Path:
    """The path, if there is a plain file that is not a pointer or page in another's place.

    Nothing but a plain file is opened, so that a pipe cannot block.

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
        If there is no file, an empty one, a folder, a pipe, a socket or a device, or what
        `check_content` refuses.
    """
    path = Path(path)
    try:
        about = path.stat()
    except (OSError, ValueError) as exc:
        if _leads_to_annex(path):
            raise error(_said_of_annex(path)) from exc
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
    check_content(path, error)
    return path


def check_content(path: str | os.PathLike, error: type[CnnVisError] = VolumeError) -> None:
    """Raise if a file only stands for another one, or is what a server answered instead.

    That is a pointer of Git LFS, git-annex or DataLad, a shortcut, a web page, or a server's
    refusal in XML or JSON, saved under the name of a scan, checkpoint or table.

    Parameters
    ----------
    path : path-like
        A plain file (see `check_plain`, which asks this too). Packed ones are looked into.
    error : type
        Of the exception.

    Raises
    ------
    CnnVisError
        With what the file is, and how to get the one that is meant.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> size = (folder / "net.pt").write_text("version https://git-lfs.github.com/spec/v1")
    >>> try:
    ...     check_content(folder / "net.pt")
    ... except VolumeError as error:
    ...     print(str(error).replace(str(folder), ""))
    /net.pt is a Git LFS pointer, a few lines that stand for the file, not the file itself. Fetch \
it with 'git lfs pull' in its folder, or download it again from the repository's page.
    """
    path = Path(path)
    start = _start_of(path)
    if _LFS.match(start):
        raise error(
            f"{path} is a Git LFS pointer, a few lines that stand for the file, not the file itself. "
            "Fetch it with 'git lfs pull' in its folder, or download it again from the repository's "
            "page."
        )
    if _ANNEX.match(start):
        raise error(_said_of_annex(path))
    if start.startswith((b"[InternetShortcut]", b"[{000214A0")):
        raise error(f"{path} is a shortcut to a web address; download the file that it leads to.")
    tag = start[_PROLOGUE.match(start).end() :]  # type: ignore[union-attr]  # it may be empty
    if _PAGE.match(tag):
        raise error(
            f"{path} is a web page (HTML) saved under this name, such as a page to log in or to "
            "confirm a download. Open it in a browser to see what it says, and download the file again."
        )
    answer = _refusal_in_json(start)
    if answer or _REFUSAL.match(tag):
        raise error(
            f"{path} is what a server answered instead of the file"
            f"{f' ({answer})' if answer else ''}; check the address and your rights, and download it "
            "again."
        )


def is_gzip(path: Path) -> bool:
    """Whether a file is packed by gzip, whatever its name says.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _start_of(path: Path) -> bytes:
    """The first bytes, unpacked, without a byte order mark; none if they cannot be read."""
    try:
        with gzip.open(path) if is_gzip(path) else path.open("rb") as file:
            return file.read(_START).removeprefix(b"\xef\xbb\xbf").lstrip()
    except (OSError, EOFError, zlib.error):  # the reader says so in its own words
        return b""


def _leads_to_annex(path: Path) -> bool:
    try:
        return path.is_symlink() and bool(_ANNEX.match(os.fsencode(os.readlink(path))))
    except (OSError, ValueError):
        return False


def _said_of_annex(path: Path) -> str:
    return (
        f"{path} only stands for a file that git-annex or DataLad has not fetched yet. Fetch it with "
        f"'datalad get' or 'git annex get' in its folder."
    )


def _refusal_in_json(start: bytes) -> str:
    """What a server says in JSON of why there is no file; "" for all else."""
    if not start.startswith(b"{"):
        return ""
    try:
        answer = json.loads(start)
    except (ValueError, RecursionError):  # longer than an answer is, or no JSON
        return ""
    told = [key for key in answer if key.lower() in _REFUSAL_KEYS]
    return shortened(answer[told[0]], 80) if told else ""


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


def decoded(raw: bytes) -> str:
    """The text of a table in whatever encoding: UTF-8, UTF-16 or, as Excel saves it, Windows-1252."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", errors="replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def source_file(source: str) -> tuple[str, int | None]:
    """The file of a volume's `source`, and which volume of it; None for the only one."""
    name, mark, number = source.rpartition("#")
    if mark and number.isdecimal() and len(number) < 10 and not os.path.exists(source):
        return name, int(number)
    return source, None
