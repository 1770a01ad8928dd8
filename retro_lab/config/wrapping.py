"""Wraps text at words for a terminal, which would break it anywhere."""

from __future__ import annotations

import os
import re
import textwrap
from typing import TextIO

_LEAST = 20  # columns; a narrower terminal is left alone
_COLUMN = re.compile(r"\s*\S.*?\s{2,}(?=\S)")  # a name before its description


def show(text: str, stream: TextIO | None) -> None:
    """Prints text on a stream, wrapped if that is a terminal; a closed stream (None) gets none."""
    if stream is not None:
        print(wrapped(text, columns(stream)), file=stream, flush=True)


def columns(stream: TextIO) -> int | None:
    """Width of the terminal behind a stream: COLUMNS if set; None for a file or a pipe."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal():
        return int(given)
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return None


def is_terminal(stream: TextIO) -> bool:
    """Whether a person reads the stream; a closed one is no terminal."""
    try:
        return stream.isatty()
    except ValueError:
        return False


def wrapped(text: str, width: int | None) -> str:
    """The text with each long line wrapped at words and indented as it began.

    A line that starts with a name and two blanks goes on below its description. Words longer than
    a line, such as paths, stay whole.
    """
    if width is None or width < _LEAST:
        return text
    return "\n".join(_line(line, width) for line in text.split("\n"))


def _line(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    column = _COLUMN.match(line)
    indent = len(line) - len(line.lstrip())
    if column is not None and len(column[0]) <= width // 2:
        indent = len(column[0])
    return textwrap.fill(
        line,
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        expand_tabs=False,
    )
