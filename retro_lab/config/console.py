"""Plain lines for people: log messages and errors on standard error, coloured on terminals only."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_RED, _YELLOW = "31", "33"
_PREFIXES = {logging.WARNING: ("warning: ", _YELLOW), logging.ERROR: ("error: ", _RED)}


class ConsoleHandler(logging.Handler):
    """Writes messages to whatever `sys.stderr` is at that time, so progress bars can move it."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix, colour = _PREFIXES.get(min(record.levelno, logging.ERROR), ("", ""))
        print(paint(prefix, colour) + self.format(record), file=sys.stderr, flush=True)


class RunLogHandler(logging.FileHandler):
    """A run's log file; where it cannot be written, messages go to the console alone."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Says so once; a log is no reason to end a run, or to print a traceback a message."""
        error = sys.exc_info()[1]
        self.addFilter(lambda record: False)
        print(
            paint("warning: ", _YELLOW)
            + f"{self.baseFilename}: {error}; messages are no longer written there",
            file=sys.stderr,
            flush=True,
        )


def print_error(message: str) -> None:
    """Prints `error: message` to standard error."""
    print(paint("error: ", _RED) + message, file=sys.stderr, flush=True)


def paint(text: str, colour: str) -> str:
    """`text` in an ANSI colour, where standard error is a terminal and NO_COLOR is not set."""
    if not text or os.environ.get("NO_COLOR") or not sys.stderr.isatty():
        return text
    return f"\033[{colour}m{text}\033[0m"


@contextmanager
def no_loading_bar() -> Iterator[None]:
    """Without transformers' own bars over weights: ours are the only ones."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
