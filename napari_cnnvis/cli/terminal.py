"""What the commands share: progress on the terminal, and signals that stop in good order."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from napari_cnnvis.errors import CnnVisError

__all__ = [
    "Stopped",
    "log_file",
    "progress",
    "progress_with_time_left",
    "say",
    "stop_in_order",
    "stops",
]


class Stopped(BaseException):
    """SIGINT (Ctrl+C) or SIGTERM; not an Exception, so that nothing on the way takes it for an error.

    Attributes
    ----------
    number : int
        Of the signal.
    status : int
        The exit status: 130 or 143.
    """

    def __init__(self, number: int, kept: str) -> None:
        name = "Ctrl+C" if number == signal.SIGINT else signal.Signals(number).name
        super().__init__(f"stopped by {name}; {kept}.")
        self.number, self.status = number, 128 + number


class Stops:
    """The handler of both signals: it raises `Stopped`, or sets an event where work can be cancelled.

    Attributes
    ----------
    cancel : threading.Event
        Set by the first signal inside `stop_in_order`.
    kept : str
        What there is of the command's results now, in plain words.
    """

    def __init__(self) -> None:
        self.cancel, self.kept = threading.Event(), "nothing was written"
        self._cancellable, self._number, self._process = False, 0, os.getpid()

    def __call__(self, number: int, frame: object) -> None:
        if os.getpid() != self._process:  # a worker that was forked; the command ends it
            return
        again, self._number = self._number != 0, number
        if again or not self._cancellable:
            raise Stopped(number, self.kept)
        self.cancel.set()
        with contextlib.suppress(RuntimeError, OSError):  # in the middle of another print
            say("stopping ...")

    @contextlib.contextmanager
    def handling(self) -> Iterator[None]:
        """Handle the signals; raises `Stopped` at the end if code on the way swallowed that."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self) for number in numbers}
        try:
            yield
            self.check("the command had finished")
        finally:
            for number, handler in before.items():
                if handler is not None:  # one that is not Python's cannot be set again
                    signal.signal(number, handler)

    @contextlib.contextmanager
    def cancelling(self) -> Iterator[None]:
        """Let the first signal set the event; raises `Stopped` at the end if there was one."""
        self.check(self.kept)
        self._cancellable = True
        try:
            yield
        except CnnVisError as exc:
            self.check(f"{self.kept} ({str(exc).rstrip('.')})")
            raise
        finally:
            self._cancellable = False
        self.check(self.kept)

    def check(self, kept: str) -> None:
        """Raise `Stopped` if there was a signal."""
        if self._number:
            raise Stopped(self._number, kept)


@contextlib.contextmanager
def stops() -> Iterator[Stops]:
    """SIGINT and SIGTERM raise `Stopped` in here; nested ones, and other threads, change nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield Stops()
        return
    outer = signal.getsignal(signal.SIGINT)
    if isinstance(outer, Stops):
        yield outer
        return
    handler = Stops()
    with handler.handling():
        yield handler


@contextlib.contextmanager
def stop_in_order(kept: str = "nothing was written") -> Iterator[Stops]:
    """SIGINT and SIGTERM set the event `cancel` in here, and raise `Stopped` at its end.

    So what is in here can write what it has. A second signal raises `Stopped` at once.

    Parameters
    ----------
    kept : str
        What there is of the results as long as the block does not set `kept` itself.
    """
    with stops() as stop:
        stop.kept = kept
        with stop.cancelling():
            yield stop


def say(text: str) -> None:
    """Write to stderr, in the place of the progress where that is shown."""
    start = "\r\033[K" if sys.stderr.isatty() else ""
    print(f"{start}{text}", file=sys.stderr)


@contextlib.contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Write the tracebacks of unexpected errors into a file, which is made by the first one."""
    log = logging.getLogger("napari_cnnvis")
    handler = logging.FileHandler(path, delay=True, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        if handler.stream is not None:
            say(f"note: the log of what was unexpected is {path}")
        handler.close()


def progress() -> Callable[[object], None] | None:
    """Shows the progress where somebody sees it."""
    return _Bars(counts=True) if sys.stderr.isatty() else None


def progress_with_time_left() -> Callable[[object], None]:
    """Shows the progress and the time left; where nobody sees it, a line for each step's new text."""
    return _Bars(counts=False)


class _Bars:
    """One bar after the other; those that were finished stay on the terminal."""

    def __init__(self, counts: bool) -> None:
        self._end = ": {n_fmt} of {total_fmt}" if counts else ""
        self._bar: Any = None
        self._text = ""

    def __call__(self, progress: object) -> None:
        if self._bar is None or self._bar.total != progress.total:
            self._close()
            self._bar = self._begin(progress)
        self._bar.set_description_str(progress.what, refresh=False)
        self._bar.update(progress.done - self._bar.n)
        if not sys.stderr.isatty() and progress.what != self._text:
            self._text = progress.what
            print(str(self._bar).removesuffix("; ? left"), file=sys.stderr, flush=True)
        if progress.done == progress.total:
            self._bar.leave = True
            self._close()

    def _begin(self, progress: object) -> Any:
        from tqdm import tqdm  # takes as long as some commands

        tqdm.monitor_interval = 0  # no thread: it may draw after the last message, and workers fork
        settings = {"desc": progress.what, "total": progress.total, "initial": progress.done}
        settings |= {"leave": False, "miniters": 0, "smoothing": 0}
        if sys.stderr.isatty():
            style = "{percentage:3.0f} % |{bar:10}| {remaining} left  {desc}" + self._end
            settings["ncols"] = shutil.get_terminal_size().columns - 1
        else:  # counts, and draws nothing itself
            style = "{desc}; {remaining} left"
            settings |= {"ncols": 10_000, "delay": math.inf}
        # rows are given since tqdm draws nothing where a terminal does not know its own
        return tqdm(**settings, bar_format=style, nrows=20)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
