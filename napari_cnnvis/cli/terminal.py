"""What the commands share: progress on the terminal, and Ctrl+C that stops in good order."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

__all__ = ["interrupt_cancels", "progress", "progress_with_time_left"]


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


def progress_with_time_left() -> Callable[[object], None]:
    """Shows the progress and the time left; where nobody sees it, a line for each step's new text."""
    return _TimeLeft()


class _TimeLeft:
    """Guesses the time left from what was done since it was first called."""

    def __init__(self) -> None:
        self._started, self._first, self._total, self._text = 0.0, 0, -1, ""

    def __call__(self, progress: object) -> None:
        now = time.monotonic()
        if progress.total != self._total:
            self._started, self._first, self._total = now, progress.done, progress.total
        done = progress.done - self._first
        left = ""
        if done > 0 and now - self._started > 1:
            seconds = (now - self._started) / done * (progress.total - progress.done)
            left = f"; {_duration(seconds)} left"
        if sys.stderr.isatty():
            percent = 100 * progress.done // max(progress.total, 1)
            end = "\n" if progress.done == progress.total else ""
            print(
                f"\r\033[K{percent} %  {progress.what}{left}", end=end, file=sys.stderr, flush=True
            )
        elif progress.what != self._text:
            self._text = progress.what
            print(f"{progress.what}{left}", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours else f"{minutes} min"
