"""What a long function tells while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from napari_cnnvis.errors import Cancelled

__all__ = ["Progress", "stop_if_cancelled"]


@dataclass(frozen=True, eq=False)
class Progress:
    """How far a long function is.

    Attributes
    ----------
    done, total : int
        Steps.
    what : str
        What is being done.
    make_partial : callable, optional
        Gives the map so far.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> step = cv.Progress(3, 10, "Scoring regions")
    >>> f"{step.what}: {step.done} of {step.total}"
    'Scoring regions: 3 of 10'
    """

    done: int
    total: int
    what: str
    make_partial: Callable[[], Any] | None = None

    @cached_property
    def partial(self) -> Any:
        """The map so far (`Attribution`), where there is one; made when it is first asked for."""
        return None if self.make_partial is None else self.make_partial()


def stop_if_cancelled(cancel: threading.Event | None, what: str) -> None:
    """Raise `Cancelled` where `cancel` is set; for what has no result until its end.

    Parameters
    ----------
    cancel : threading.Event, optional
    what : str
        What was cancelled, as the sentence begins: "Building the supervoxels".
    """
    if cancel is not None and cancel.is_set():
        raise Cancelled(f"{what} was cancelled.")
