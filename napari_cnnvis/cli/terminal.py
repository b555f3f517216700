"""What the commands share: progress on the terminal, and Ctrl+C that stops in good order."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator

__all__ = ["interrupt_cancels", "progress"]


@contextlib.contextmanager
def interrupt_cancels(consequence: str) -> Iterator[threading.Event]:
    """Ctrl+C sets the event and says the consequence; pressed again it stops at once."""
    cancel = threading.Event()

    def interrupt(number: int, frame: object) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()
        print(f"\nstopping{consequence} ...", file=sys.stderr)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, before)


def progress() -> Callable[[object], None] | None:
    """Shows the progress where somebody sees it."""
    return _print_progress if sys.stderr.isatty() else None


def _print_progress(progress: object) -> None:
    text = f"\r{progress.what}: {progress.done} of {progress.total}"
    end = "\n" if progress.done == progress.total else ""
    print(f"{text:<60}", end=end, file=sys.stderr, flush=True)
