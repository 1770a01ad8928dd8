"""Contract: progress is a bar on a terminal and plain log lines elsewhere."""

from __future__ import annotations

import io
import itertools
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, redirect_stderr

import pytest

from retro_lab.store import progress, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log, where standard error is a file."""
    caplog.set_level(logging.INFO, "retro_lab")
    with redirect_stderr(io.StringIO()):
        yield caplog


def timed(total: int | None, what: str, unit: str) -> AbstractContextManager[Callable[[int], None]]:
    """`track` with a clock that moves on by 4 s each time it is read."""
    ticks = itertools.count(step=4.0)
    return track(total, what, unit, clock=lambda: next(ticks))


def test_plain_lines_at_the_start_every_ten_seconds_and_at_the_end(log):
    with timed(6000, "embedding", "chunks") as advance:
        for _ in range(6):
            advance(1000)
    assert log.messages == [
        "embedding: 6,000 chunks",
        "embedding: 3,000 of 6,000 chunks, 250 chunks/s, 12 s left",
        "embedding: 6,000 chunks in 28 s, 214 chunks/s",  # the end is told once
    ]


def test_one_thing_is_counted_in_the_singular(log):
    with timed(1, "sorting contexts", "segments of the database") as advance:
        advance(1)
    assert log.messages[0] == "sorting contexts: 1 segment of the database"
    assert log.messages[-1].startswith("sorting contexts: 1 segment of the database in ")


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [(1, "indexes", "1 index"), (1, "bytes", "1 byte"), (0, "blocks", "0 blocks")],
)
def test_counts(number: int, unit: str, text: str):
    assert progress.counted(number, unit) == text


def test_total_may_be_unknown(log):
    with timed(None, "reading", "documents") as advance:
        for _ in range(3):
            advance(1)
    assert log.messages == [
        "reading: documents",
        "reading: 3 documents, 0.2 documents/s",
        "reading: 3 documents in 16 s, 0.2 documents/s",
    ]


def test_a_stop_is_told(log):
    def interrupted() -> None:
        with track(10, "embedding", "chunks") as advance:
            advance(4)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert log.messages[-1] == "embedding: stopped after 4 of 10 chunks"


def test_other_ranks_are_silent(log, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with track(2, "embedding", "chunks") as advance:
        advance(2)
    assert log.messages == []


def test_bar_on_a_terminal(log, monkeypatch):
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    with redirect_stderr(terminal), timed(2000, "embedding [x]", "chunks") as advance:
        advance(2000)
    assert "embedding [x]" in terminal.getvalue()
    assert "2,000 of 2,000 chunks" in terminal.getvalue()
    assert log.messages == ["embedding [x]: 2,000 chunks in 4.0 s, 500 chunks/s"]


def test_bar_obeys_no_color(log, monkeypatch):
    shown = {}
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for colour in (True, False):
        terminal = Terminal()
        if not colour:
            monkeypatch.setenv("NO_COLOR", "1")
        with redirect_stderr(terminal), track(2, "embedding", "chunks") as advance:
            advance(2)
        shown[colour] = terminal.getvalue()
    colours = re.compile(r"\x1b\[(\d;)?[34]\d")
    assert colours.search(shown[True])
    assert not colours.search(shown[False])


def test_a_loop_inside_another_falls_back_to_lines(log):
    for _ in range(2):  # the second time shows that the bar was given back
        log.clear()
        with redirect_stderr(Terminal()), track(1, "outer", "files") as outer:
            with track(1, "inner", "lines") as inner:
                inner(1)
            outer(1)
        assert [line.split(":")[0] for line in log.messages] == ["inner", "inner", "outer"]


def test_the_bar_is_given_back_after_an_error(log):
    with redirect_stderr(Terminal()):
        with pytest.raises(RuntimeError), track(1, "first", "files"):
            raise RuntimeError
        log.clear()
        with track(1, "second", "files") as advance:
            advance(1)
    assert len(log.messages) == 1, "lines in the place of a bar"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (88, "88 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations(seconds: float, text: str):
    assert progress.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "seconds", "text"), [(12340, 10, "1,234 chunks/s"), (8, 10, "0.8 chunks/s")]
)
def test_rates(count: int, seconds: float, text: str):
    assert progress.rate(count, seconds, "chunks") == text
