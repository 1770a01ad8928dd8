"""What a terminal or pipe can do to any command: Ctrl-C, a reader that leaves, bytes and characters
that it cannot take. Each ends in one line and an exit code, never in a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper

EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141  # as a program has that SIGPIPE ends


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
