"""The terminal: plain lines for people on standard error, and what it can do to any command.

That is Ctrl-C, a reader that leaves, bytes and characters that it cannot take: each ends in one
line and an exit code, never in a traceback.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper

EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141  # as a program has that SIGPIPE ends

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


class ToldInterrupt(KeyboardInterrupt):
    """A Ctrl-C of which the user was told already."""


def interrupted(error: KeyboardInterrupt) -> int:
    """Says so in one line, unless that was done; the exit code."""
    if not isinstance(error, ToldInterrupt):
        print("interrupted", file=sys.stderr, flush=True)
    return EXIT_INTERRUPTED


def run_command(argv: Sequence[str], command: Callable[[list[str]], int]) -> int:
    """Exit code of a command.

    Characters that the terminal's encoding lacks are printed as escapes.

    Args:
        argv: its arguments.
        command: takes them; what it needs is imported inside, so that Ctrl-C counts there too.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for argument in argv:
        if not _is_text(argument):
            print(f"error: the argument {argument} is not in UTF-8", file=sys.stderr)
            print("  fix: type it in UTF-8, or rename the file", file=sys.stderr)
            return 2
    try:
        code = command(list(argv))
        if sys.stdout is not None:  # as under `>&-`
            sys.stdout.flush()
    except KeyboardInterrupt as error:
        return interrupted(error)
    except BrokenPipeError:
        # What is still to be written goes nowhere, or Python would complain as it exits.
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_UNREAD
    return code


def decoded(line: str) -> str:
    """A line of standard input, read with `surrogateescape`, as text; other bytes become U+FFFD."""
    return line.encode(errors="surrogateescape").decode(errors="replace")


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True
