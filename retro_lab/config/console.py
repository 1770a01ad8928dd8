"""The terminal: messages on standard error, and signals and pipes that end a command.

Ctrl-C, a closed pipe, and bytes or characters outside the encoding end in one line and an exit
code, without a traceback.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper

from .imports import announced
from .wrapping import columns, wrapped

EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141  # exit code of a program that SIGPIPE ends

_RED, _YELLOW = "31", "33"
_PREFIXES = {logging.WARNING: ("warning: ", _YELLOW), logging.ERROR: ("error: ", _RED)}


class ConsoleHandler(logging.Handler):
    """Writes messages to the current `sys.stderr`, which a progress bar may have replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix, colour = _PREFIXES.get(min(record.levelno, logging.ERROR), ("", ""))
        _show(prefix, colour, self.format(record))


class RunLogHandler(logging.FileHandler):
    """A run's log file; if writing fails, messages go to the console alone."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Prints one warning and stops writing: a full disk must not end the run."""
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
    _show("error: ", _RED, message)


def print_warning(message: str) -> None:
    """Prints `warning: message` to standard error."""
    _show("warning: ", _YELLOW, message)


def _show(prefix: str, colour: str, message: str) -> None:
    text = wrapped(prefix + message, columns(sys.stderr))
    print(paint(prefix, colour) + text.removeprefix(prefix), file=sys.stderr, flush=True)


def paint(text: str, colour: str) -> str:
    """`text` in an ANSI colour if standard error is a terminal and NO_COLOR is unset."""
    if not text or os.environ.get("NO_COLOR") or not sys.stderr.isatty():
        return text
    return f"\033[{colour}m{text}\033[0m"


@contextmanager
def no_loading_bar() -> Iterator[None]:
    """Hides transformers' progress bars while weights load."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


class ReportedInterrupt(KeyboardInterrupt):
    """A Ctrl-C that was already reported to the user."""


def interrupted(error: KeyboardInterrupt) -> int:
    """Prints "interrupted" unless already reported; returns the exit code."""
    if not isinstance(error, ReportedInterrupt):
        print("interrupted", file=sys.stderr, flush=True)
    return EXIT_INTERRUPTED


def run_command(argv: Sequence[str], command: Callable[[list[str]], int]) -> int:
    """Runs a command and returns its exit code.

    Characters that the terminal's encoding lacks are printed as escapes.

    Args:
        argv: the command's arguments.
        command: the function to run; its imports belong inside, so that Ctrl-C during an
            import is handled too.
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
        with announced(sys.stderr):
            code = command(list(argv))
        if sys.stdout is not None:  # None under `>&-`
            sys.stdout.flush()
    except KeyboardInterrupt as error:
        return interrupted(error)
    except BrokenPipeError:
        # Discard unwritten output; Python would otherwise complain at exit.
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_UNREAD
    return code


def decoded(line: str) -> str:
    """A line read with `surrogateescape` as text; undecodable bytes become U+FFFD."""
    return line.encode(errors="surrogateescape").decode(errors="replace")


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True
