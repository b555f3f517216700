"""Progress on a terminal and where there is none."""

import io
import re
from contextlib import redirect_stderr

import pytest

from napari_cnnvis.cli.terminal import progress, progress_with_time_left, say
from napari_cnnvis.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    return Terminal()


def lines_of(terminal):
    """What a user sees in the end: each line as it was written last."""
    return [re.split(r"\r(?:\033\[K)?", line)[-1] for line in terminal.getvalue().split("\n")]


def test_a_finished_bar_stays(terminal):
    with redirect_stderr(terminal):
        show = progress()
        for done in range(4):
            show(Progress(done, 3, "scoring regions"))
    *_, line, after = lines_of(terminal)
    assert re.fullmatch(r"100 % \|[█#]+\| 00:00 left  scoring regions: 3 of 3", line.strip())
    assert after == ""


def test_an_unfinished_bar_is_cleared_by_the_next_one(terminal):
    with redirect_stderr(terminal):
        show = progress()
        show(Progress(1, 3, "one"))
        show(Progress(2, 2, "two"))
    text = "\n".join(lines_of(terminal))
    assert "two: 2 of 2" in text
    assert "one" not in text


def test_a_message_stands_in_the_place_of_the_bar(terminal):
    with redirect_stderr(terminal):
        show = progress()
        show(Progress(1, 3, "one"))
        say("note: a scan was left out")
        show(Progress(3, 3, "one"))
    first, second, after = lines_of(terminal)
    assert first == "note: a scan was left out"
    assert "one: 3 of 3" in second
    assert after == ""


def test_nothing_is_drawn_after_the_last_message(terminal):
    with redirect_stderr(terminal):
        show = progress()
        show(Progress(1, 3, "one"))
        say("stopped")
        del show
    assert [line.strip() for line in lines_of(terminal)] == ["stopped", ""]


def test_a_line_is_no_wider_than_the_terminal(terminal):
    with redirect_stderr(terminal):
        show = progress_with_time_left()
        for done in range(3):
            show(Progress(done, 2, "epoch " * 50))
    assert max(map(len, lines_of(terminal))) < 80


def test_steps_without_a_number(terminal):
    with redirect_stderr(terminal):
        progress()(Progress(0, 0, "nothing to do"))
    assert "nothing to do: 0 of 0" in terminal.getvalue()


def test_where_nobody_sees_it_each_new_text_is_a_line():
    long = "fold 2, " * 30
    with redirect_stderr(io.StringIO()) as written:
        assert progress() is None
        show = progress_with_time_left()
        for done, what in ((1, "fold 1"), (2, "fold 1"), (3, long), (4, long)):
            show(Progress(done, 4, what))
    first, second, after = written.getvalue().split("\n")
    assert first == "fold 1"
    assert re.fullmatch(re.escape(long) + r"; \d\d:\d\d left", second)
    assert after == ""
