"""Jobs in a worker thread: results, errors, progress, cancel."""

import threading
import time

import pytest

from napari_cnnvis._napari.widgets.jobs import JobRunner, time_left
from napari_cnnvis.errors import MethodError
from napari_cnnvis.progress import Progress


@pytest.fixture
def runner(qtbot):
    runner = JobRunner()
    yield runner
    runner.cancel()
    qtbot.waitUntil(lambda: not runner.busy, timeout=5000)


def test_result_arrives_on_the_main_thread(qtbot, runner):
    seen = []
    with qtbot.waitSignal(runner.finished):
        runner.start(
            "adding",
            lambda progress, cancel: threading.get_ident(),
            lambda result: seen.append((result, threading.get_ident())),
        )
    worker, receiver = seen[0]
    assert worker != threading.get_ident() == receiver
    assert not runner.busy


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MethodError("Choose another layer."), "Choose another layer."),
        (RuntimeError("mat1 and mat2"), "RuntimeError: mat1 and mat2"),
    ],
)
def test_every_error_arrives_in_words(qtbot, runner, error, text):
    def job(progress, cancel):
        raise error

    said = []
    runner.failed.connect(said.append)
    with qtbot.waitSignal(runner.finished):
        runner.start("failing", job, lambda result: pytest.fail("no result expected"))
    assert text in said[0]


def test_progress_is_passed_on_and_the_last_step_never_dropped(qtbot, runner):
    def job(progress, cancel):
        for done in range(1, 101):
            progress(Progress(done, 100, "counting"))

    steps = []
    runner.progressed.connect(lambda progress: steps.append(progress.done))
    with qtbot.waitSignal(runner.finished):
        runner.start("counting", job, lambda result: None)
    assert steps[-1] == 100
    assert len(steps) < 20


def test_each_step_is_passed_on(qtbot, runner):
    def job(progress, cancel):
        for done, what in enumerate(("finding the head", "measuring", "merging")):
            progress(Progress(done, 3, what))

    steps = []
    runner.progressed.connect(lambda progress: steps.append(progress.what))
    with qtbot.waitSignal(runner.finished):
        runner.start("building", job, lambda result: None)
    assert steps == ["finding the head", "measuring", "merging"]


def test_cancel_reaches_the_job(qtbot, runner):
    def job(progress, cancel):
        return cancel.wait(5)

    results = []
    runner.start("waiting", job, results.append)
    runner.cancel()
    qtbot.waitUntil(lambda: bool(results), timeout=3000)
    assert results == [True]


def test_one_job_at_a_time(qtbot, runner):
    results = []
    with qtbot.waitSignal(runner.finished):
        runner.start("first", lambda progress, cancel: time.sleep(0.1) or "first", results.append)
        runner.start("second", lambda progress, cancel: "second", results.append)
    assert results == ["first"]


def test_nothing_is_delivered_after_closing(qtbot, runner):
    results = []
    runner.start("late", lambda progress, cancel: cancel.wait(5), results.append)
    runner.close()
    qtbot.waitUntil(lambda: not runner.busy, timeout=3000)
    assert results == []


@pytest.mark.parametrize(
    ("done", "elapsed", "text"),
    [
        (0, 10, ""),
        (10, 0.5, ""),
        (100, 10, ""),
        (50, 30, "about 30 s left"),
        (10, 60, "about 9 min left"),
    ],
)
def test_time_left(done, elapsed, text):
    assert time_left(Progress(done, 100, "x"), elapsed) == text
