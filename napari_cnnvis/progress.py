"""What a long function tells while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Progress"]


@dataclass(frozen=True, eq=False)
class Progress:
    """How far a long function is.

    Attributes
    ----------
    done, total : int
        Steps.
    what : str
        What is being done.
    partial : Attribution or None
        The map so far, where there is one.
    """

    done: int
    total: int
    what: str
    partial: Any = None
