"""`python -m retro_lab doctor`: checks installation and store; `--collect` frees the unused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from retro_lab.config.console import print_error
from retro_lab.config.errors import EXIT_USER_ERROR

USAGE = """usage: python -m retro_lab doctor [store=DIR] [runs=DIR] [--collect [--yes]]

Prints versions and hardware, and verifies the checksum of every stored stage. With --collect it
lists the stages that no run in runs=DIR needs, and removes them with --yes."""


def main(argv: Sequence[str]) -> int:
    """Exit code of `doctor <argv>`: 2 if anything stored is damaged."""
    options = dict(argument.split("=", 1) for argument in argv if "=" in argument)
    flags = {argument for argument in argv if "=" not in argument}
    unknown = (set(options) - {"store", "runs"}) | (flags - {"--collect", "--yes", "--help", "-h"})
    if unknown or flags & {"--help", "-h"}:
        print(USAGE)
        if unknown:
            print_error(f"unknown argument {sorted(unknown)[0]}")
        return EXIT_USER_ERROR if unknown else 0
    runs = Path(options.get("runs", "runs"))
    store = Path(options.get("store") or os.environ.get("RETRO_LAB_STORE") or runs / ".store")
    _show_environment()
    healthy = _verify(store)
    if "--collect" in flags:
        _collect(store, runs, dry_run="--yes" not in flags)
    return 0 if healthy else EXIT_USER_ERROR


def _show_environment() -> None:
    from retro_lab.evaluation.environment import environment

    for name, value in environment().items():
        print(f"{name:<12}{value}")


def _verify(store: Path) -> bool:
    from retro_lab.artifacts import verify

    problems = verify(store) if store.is_dir() else []
    for problem in problems:
        print(problem.line())
    print(f"store       {store}: {'damaged' if problems else 'intact'}")
    return not problems


def _collect(store: Path, runs: Path, dry_run: bool) -> None:
    """Removes stages that no run's lineage names."""
    from retro_lab.artifacts import collect_garbage

    from .run_directory import RunDirectory

    keep = {
        (stage, key)
        for pattern in ("*/lineage.json", "*/databases/*/lineage.json")
        for path in runs.glob(pattern)
        for stage, keys in RunDirectory(path.parent).lineage.items()
        for key in keys.split("+")
    }
    garbage = collect_garbage(store, keep, dry_run=dry_run)
    for removable in garbage.removed:
        print(removable.line())
    verb = "would free" if dry_run else "freed"
    print(f"{verb} {garbage.freed_bytes / 1e6:,.1f} MB{'; --yes removes it' if dry_run else ''}")
