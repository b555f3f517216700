"""Run one long function at a time in a worker thread, with progress, time left and cancel."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from napari.utils import progress as activity
from qtpy.QtCore import QObject, Signal
from superqt.utils import create_worker

from napari_cnnvis.errors import Cancelled, CnnVisError
from napari_cnnvis.progress import Progress

__all__ = ["JobRunner", "time_left"]

#: partial results are passed on this often at most, in seconds
_UPDATE_INTERVAL = 0.25
#: and after this many times as long as it took to make the last one
_PATIENCE = 15


class JobRunner(QObject):
    """Runs jobs one at a time; every signal arrives on the main thread.

    Signals
    -------
    started(str)
        What is being done.
    progressed(Progress)
        At most a few times a second, and when another step begins.
    failed(str)
        Plain words.
    finished()
        After the result or the error was delivered.
    """

    started = Signal(str)
    progressed = Signal(object)
    failed = Signal(str)
    #: it was cancelled before it had a result, with a sentence
    stopped = Signal(str)
    finished = Signal()
    _reported = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._life = _Life()
        # the job may outlive this object and its panel; the slot must not hold it
        self.destroyed.connect(self._life.end)
        self._worker: Any = None
        self._bar: activity | None = None
        #: what the last job failed of, if it did
        self.error: BaseException | None = None
        self._reported.connect(self._on_progress)

    @property
    def busy(self) -> bool:
        """True while a job runs."""
        return self._worker is not None

    def start(
        self,
        what: str,
        job: Callable[[Callable[[Progress], None], threading.Event], Any],
        done: Callable[[Any], None],
    ) -> None:
        """Run ``job(progress, cancel)`` in a worker and hand its result to ``done``.

        Nothing happens if a job is running already.
        """
        if self.busy:
            return
        life = self._life
        life.cancel = cancel = threading.Event()
        self.error = None
        following, step = 0.0, ""

        def report(progress: Progress) -> None:
            nonlocal following, step
            now = time.monotonic()
            if life.ended:
                return
            last = progress.done == progress.total
            if now >= following or last or progress.what != step:
                step = progress.what
                _ = progress.partial  # made here, not on the main thread
                spent = time.monotonic() - now
                following = now + spent + max(_UPDATE_INTERVAL, _PATIENCE * spent)
                with contextlib.suppress(RuntimeError):  # destroyed at this very moment
                    self._reported.emit(progress)

        self._worker = create_worker(job, report, cancel, _start_thread=False, _ignore_errors=True)
        self._worker.returned.connect(lambda result: self._end(done, result))
        self._worker.errored.connect(lambda error: self._end(self._fail, error))
        self.started.emit(what)
        self._bar = activity(total=0, desc=what)
        self._worker.start()

    def cancel(self) -> None:
        """Ask the running job to stop; it hands over what it has."""
        self._life.cancel.set()

    def close(self) -> None:
        """Cancel, and deliver nothing any more: the panel is gone."""
        self._life.end()

    def _on_progress(self, progress: Progress) -> None:
        if not self.busy:
            return
        if self._bar is not None:
            self._bar.total = progress.total
            self._bar.update(progress.done - self._bar.n)
        self.progressed.emit(progress)

    def _end(self, deliver: Callable[[Any], None], value: Any) -> None:
        self._worker = None
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if self._life.ended:
            return
        try:
            deliver(value)
        finally:
            self.finished.emit()

    def _fail(self, error: BaseException) -> None:
        self.error = error
        if isinstance(error, Cancelled):
            self.stopped.emit(str(error))
        elif isinstance(error, CnnVisError):
            self.failed.emit(str(error))
        else:
            self.failed.emit(
                f"Something unexpected went wrong: {type(error).__name__}: {error}. "
                "Please report it with the steps that led here."
            )


class _Life:
    """Whether results are still wanted, and the event that stops the running job."""

    def __init__(self) -> None:
        self.ended = False
        self.cancel = threading.Event()

    def end(self) -> None:
        """Nothing is wanted any more."""
        self.ended = True
        self.cancel.set()


def time_left(progress: Progress, elapsed: float) -> str:
    """ "about 2 min left" from the share that is done, or "" where nothing can be said yet."""
    if progress.done == 0 or elapsed < 1 or progress.done >= progress.total:
        return ""
    seconds = elapsed * (progress.total - progress.done) / progress.done
    if seconds < 90:
        return f"about {max(1, round(seconds))} s left"
    return f"about {round(seconds / 60)} min left"
