"""The reference of commands: what each prints with --help."""

from __future__ import annotations

import contextlib
import io

from retro_lab.__main__ import COMMANDS, main

INTRODUCTION = """\
# Commands

What `python -m retro_lab <command> --help` prints. `python train.py` and `python evaluate.py` are
the commands of that name, and `retro-lab <command>` works from any folder.
[Everyday commands](../commands.md) shows examples.
"""


def page() -> str:
    """The page as Markdown."""
    parts = [INTRODUCTION]
    for name, (_, purpose) in COMMANDS.items():
        about = f"{purpose[0].upper()}{purpose[1:]}."
        parts += [f"## {name}", about, f"```text\n{_help(name)}\n```"]
    return "\n\n".join(parts) + "\n"


def _help(name: str) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        if main([name, "--help"]) != 0:
            raise RuntimeError(f"{name} --help failed")
    return shown.getvalue().strip()
