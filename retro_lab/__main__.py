"""python -m retro_lab <command>: finds the command, and imports nothing that it doesn't need."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence

import retro_lab
from retro_lab.config.console import print_error, run_command
from retro_lab.config.errors import EXIT_USER_ERROR
from retro_lab.config.refusals import refusal
from retro_lab.config.wrapping import show

# A command's function, `main(argv) -> exit code`, and what it is for.
COMMANDS = {
    "train": ("retro_lab.commands.train:main", "train and evaluate one run, or a sweep with -m"),
    "evaluate": ("retro_lab.commands.evaluate:main", "evaluate a finished run: run=runs/..."),
    "prepare": ("retro_lab.commands.prepare:main", "build the data of a run, and no more"),
    "report": ("retro_lab.commands.report:main", "compare finished runs in tables and plots"),
    "serve": ("retro_lab.commands.serve:main", "answer searches over HTTP: run=runs/..."),
    "generate": ("retro_lab.commands.generate:main", "continue a prompt, searching: run=runs/..."),
    "export": (
        "retro_lab.commands.export:main",
        "a run as a Hugging Face model folder: run=... out=...",
    ),
    "audit": (
        "retro_lab.commands.audit:main",
        "are a scorer's figures valid, and is the text in its data?",
    ),
    "validate": (
        "retro_lab.commands.validate:main",
        "check a configuration in seconds, run nothing",
    ),
    "plan": ("retro_lab.commands.plan:main", "size and time of a corpus before anything is built"),
    "doctor": ("retro_lab.commands.doctor:main", "check this installation and the stored data"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code; `argv` is taken from the process if None."""
    return run_command(sys.argv[1:] if argv is None else argv, _command)


def _command(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        show(_help(), sys.stdout)
        return 0 if arguments else EXIT_USER_ERROR
    if arguments[0] in ("-V", "--version"):
        print(f"retro_lab {retro_lab.__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        fix = f"did you mean {near[0]}?" if near else f"commands: {', '.join(COMMANDS)}"
        print_error(f"{name} is not a command\n  fix: {fix}")
        return EXIT_USER_ERROR
    module, _, function = COMMANDS[name][0].partition(":")
    command = getattr(importlib.import_module(module), function)
    try:
        return command(rest)
    except Exception as error:
        refused = refusal(error)
        if refused is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print_error(str(refused))
        return EXIT_USER_ERROR


def _help() -> str:
    lines = [f"  {name:<10}{purpose}" for name, (_, purpose) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: python -m retro_lab <command> [key=value ...]",
            "",
            *lines,
            "",
            "python -m retro_lab <command> --help says more; python train.py and",
            "python evaluate.py are the commands of that name. --version prints the version.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
