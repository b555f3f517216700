"""The package's own exceptions.

None of them is a ``RuntimeError``: torch's are turned into these, so that they
reach the user through worker threads, with a sentence that says what to do.
"""

import difflib
import logging
from collections.abc import Iterable

__all__ = [
    "Cancelled",
    "CheckpointError",
    "CnnVisError",
    "ComputeError",
    "MethodError",
    "VolumeError",
    "in_plain_words",
    "shortened",
    "some_of",
]

_LOG = logging.getLogger("napari_cnnvis")


class CnnVisError(Exception):
    """Anything that a user can cause or fix; the text says what is wrong and what to do.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> try:
    ...     cv.read_volume("nowhere.nii.gz")
    ... except cv.CnnVisError as error:
    ...     print(error)
    There is no file nowhere.nii.gz; check its name and folder.
    """


class Cancelled(CnnVisError):
    """What was running was cancelled before it had a result; nothing is wrong."""


class VolumeError(CnnVisError):
    """A scan, map or label volume cannot be read, written or used."""


class CheckpointError(CnnVisError):
    """A file is not a checkpoint that can be loaded."""


class MethodError(CnnVisError):
    """A method, class, layer or option does not apply to this model or scan."""


class ComputeError(CnnVisError):
    """The computation failed: out of memory, or an error inside the network."""


def shortened(text: object, longest: int = 200) -> str:
    """A text from a file as it may stand in a message: on one line and not long.

    Examples
    --------
    >>> shortened("a" * 1_000_000, 12)
    'aaaaaaaaa...'
    """
    plain = " ".join(str(text)[: 4 * longest].split())
    return plain if len(plain) <= longest else plain[: longest - 3] + "..."


def some_of(names: Iterable[object], wanted: str = "", most: int = 10) -> str:
    """Names as a message lists them: the first ones, or those most like the one that is wanted.

    Parameters
    ----------
    names : iterable
    wanted : str, optional
        What somebody wrote.
    most : int, optional
        How many are shown.

    Examples
    --------
    >>> some_of(["conv1", "conv2", "fc"], "conv2d", 2)
    'conv2, conv1 and 1 more'
    >>> some_of([])
    'none'
    """
    texts = [shortened(name, 60) for name in names]
    if len(texts) > most and wanted:
        parts = [p for p in wanted.casefold().split(".") if p]
        likeness = {
            text: (sum(p in text.casefold() for p in parts), _likeness(text, wanted))
            for text in texts
        }
        texts.sort(key=lambda text: likeness[text], reverse=True)
    more = len(texts) - most
    return (", ".join(texts[:most]) or "none") + (f" and {more} more" if more > 0 else "")


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one.casefold(), other.casefold()).ratio()


def in_plain_words(error: Exception, about: str) -> str:
    """What is said of an error in one of many scans, where the others go on.

    Parameters
    ----------
    error : Exception
        A `CnnVisError` has its own words. Any other is unexpected: the log of "napari_cnnvis"
        gets its traceback.
    about : str
        What it happened to, for the log.
    """
    if isinstance(error, CnnVisError):
        return str(error)
    _LOG.error("%s: an unexpected error", about, exc_info=error)
    if isinstance(error, MemoryError):
        return "Memory ran out. Close other programs, and try this scan again."
    first = shortened(next(iter(str(error).splitlines()), "")).rstrip(".")
    what = ": ".join(filter(None, (type(error).__name__, first)))
    return f"Something unexpected went wrong ({what}). The log says where."
