"""Nothing is fetched from anywhere while a network is made: its weights are in the user's file."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["NetworkAccess", "offline"]

#: what Python reports before it asks for a name, connects, or opens an address
_EVENTS = (
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.sendto",
    "urllib.Request",
)
_refusing = threading.local()


class NetworkAccess(Exception):
    """Something was about to be fetched.

    No OSError, which code that fetches takes for a bad line and tries again.
    """


@contextmanager
def offline() -> Iterator[None]:
    """Inside the block this thread fetches nothing.

    Raises
    ------
    NetworkAccess
        Where code in the block tries to; no request is made.
    """
    _listen()
    before = getattr(_refusing, "on", False)
    _refusing.on = True
    try:
        yield
    finally:
        _refusing.on = before


@functools.cache
def _listen() -> None:
    """Ask Python to report; once for the process, since it cannot be taken back."""
    sys.addaudithook(_on_event)


def _on_event(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _EVENTS and getattr(_refusing, "on", False):
        raise NetworkAccess("it would fetch something from the network")
