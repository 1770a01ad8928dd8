"""Contract: text for a terminal is wrapped at words and keeps its indentation; a file's is not."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retro_lab.config.console import print_error
from retro_lab.config.wrapping import columns, wrapped


@given(st.text("ab -/=.\n", max_size=200), st.integers(20, 60))
def test_no_word_is_broken_and_none_is_lost(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert lines.split() == text.split()
    assert all(len(line) <= width or " " not in line.strip() for line in lines.split("\n"))


def test_a_description_goes_on_below_itself() -> None:
    assert wrapped("  tokens=128  most new tokens of a text", 30) == (
        "  tokens=128  most new tokens\n              of a text"
    )
    assert (
        wrapped("  fix: give it a name that is free", 24) == "  fix: give it a name\n  that is free"
    )
    assert wrapped(f"in {'a' * 50} b", 20) == f"in\n{'a' * 50}\nb"
    assert wrapped("a  b " * 20, None) == "a  b " * 20


def test_an_error_is_wrapped_where_a_terminal_is_narrow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    print_error("word " * 20)
    assert len(capsys.readouterr().err.splitlines()) == 1
    monkeypatch.setenv("COLUMNS", "40")
    print_error("word " * 20)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 40
    assert columns(io.StringIO()) == 40
