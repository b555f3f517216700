"""Files that are written: complete or not at all, and never over what they were made from."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from napari_cnnvis.errors import VolumeError

__all__ = ["PYTHON", "atomic_path", "check_folder", "check_output", "companion", "is_same_file"]

#: how a caller in Python says that a file may be replaced
PYTHON = "overwrite=True"
#: endings of packed images
_PACKED = (".gz", ".bz2", ".zst", ".xz")


def check_output(
    path: str | os.PathLike,
    inputs: Iterable[str | os.PathLike | None] = (),
    overwrite: bool = False,
    how: str = PYTHON,
    own: Callable[[Path], bool] | None = None,
) -> Path:
    """The path, if a file may be written there; to be asked before a long run.

    Parameters
    ----------
    path : path-like
    inputs : iterable of path-like
        What the run reads. Neither these files, by whatever name, nor the JSON that lies
        beside them, nor what is in these folders is ever replaced. Empty ones are left out.
    overwrite : bool
        Replace another file that is there.
    how : str
        What somebody says who wants that, such as "--overwrite".
    own : callable, optional
        Whether a file that is there may be replaced at all, such as the record of another map.

    Raises
    ------
    VolumeError
        If it may not, or the folder does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise VolumeError(f"Cannot write {path}: there is no folder {path.parent}.")
    if not os.path.lexists(path):
        return path
    for one in inputs:
        if one:
            _refuse_input(path, Path(one))
    try:
        kind = path.stat().st_mode
    except OSError:  # a link to nothing
        kind = stat.S_IFREG
    if not stat.S_ISREG(kind):
        what = "a folder" if stat.S_ISDIR(kind) else "a device or pipe"
        raise VolumeError(f"Cannot write {path}: it is {what}. Choose another name.")
    if own is not None and not own(path):
        raise VolumeError(
            f"{path} would be replaced, and it is of another kind or belongs to another file. "
            "Choose another name for the output."
        )
    if not overwrite:
        raise VolumeError(f"{path} exists already. Choose another name, or replace it with {how}.")
    return path


def _refuse_input(path: Path, given: Path) -> None:
    """Raise if a file that is there is an input, goes with it, or lies in it."""
    remedy = "it would be lost. Choose another name for the output."
    if is_same_file(path, given):
        raise VolumeError(f"{path} is an input of this run; {remedy}")
    if any(is_same_file(path, other) for other in _with(given)):
        raise VolumeError(f"{path} belongs to {given}, which is an input of this run; {remedy}")
    if given.is_dir() and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(given)):
        raise VolumeError(f"{path} is a file of {given}, which is an input of this run; {remedy}")


def _with(given: Path) -> list[Path]:
    """Files that belong to a file: the JSON beside it, and the other half of an image pair."""
    beside = [companion(given), given.with_suffix(".json")] if given.name else []
    pair = {".hdr": ".img", ".img": ".hdr"}.get(given.suffix.lower())
    return [*beside, *([given.with_suffix(pair)] if pair else [])]


def companion(path: str | os.PathLike) -> Path:
    """Where the JSON of an image lies: ``map.json`` beside ``map.nii.gz``."""
    path = Path(path)
    packing = next((end for end in _PACKED if path.name.lower().endswith(end)), "")
    plain = path.name[: len(path.name) - len(packing)]
    return path.with_name((plain.rpartition(".")[0] or plain) + ".json")


def is_same_file(one: str | os.PathLike, other: str | os.PathLike) -> bool:
    """Whether two paths lead to the same file, there or not, by whatever links and spelling."""
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        places = (os.path.normcase(os.path.realpath(path)) for path in (one, other))
        return len(set(places)) == 1


def check_folder(
    folder: str | os.PathLike,
    names: Iterable[str],
    inputs: Iterable[str | os.PathLike | None] = (),
    own: bool = False,
) -> Path:
    """The folder, if files of these names may be written into it.

    Parameters
    ----------
    folder : path-like
        It need not exist.
    names : iterable of str
    inputs : iterable of path-like
        As for `check_output`.
    own : bool
        An earlier run of the program wrote there: what is there may be replaced.

    Raises
    ------
    VolumeError
        If it is a file, or a file in it is an input or not the program's own.
    """
    folder, inputs = Path(folder), list(inputs)
    if os.path.lexists(folder) and not folder.is_dir():
        raise VolumeError(f"{folder} is a file; choose a folder.")
    for name in names:
        path = folder / name
        if not os.path.lexists(path):
            continue
        check_output(path, inputs, overwrite=True)
        if not own:
            raise VolumeError(
                f"{path} would be replaced, and no earlier run wrote it. Choose another folder."
            )
    return folder


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder, moved to `path` if the block succeeds.

    The file gets the rights that any new file has, also where a writer makes it again.

    Raises
    ------
    VolumeError
        If the folder does not exist or cannot be written to.
    """
    endings = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(
            suffix=endings, prefix=f".{path.name[:40]}-", dir=path.parent
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as exc:
        raise VolumeError(
            f"Cannot write {path}: {exc.strerror or exc}. Choose a folder that exists, "
            "has space and can be written to."
        ) from exc
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
