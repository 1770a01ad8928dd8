"""`python -m retro_lab doctor`: checks installation and store, and removes unused stages."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retro_lab.config import arguments
from retro_lab.config.arguments import key
from retro_lab.config.errors import EXIT_USER_ERROR, UserError

USAGE = """usage: python -m retro_lab doctor [store=DIR] [runs=DIR] [--collect [--yes]]

Prints versions and hardware, and verifies the checksum of every stored stage. With --collect it
lists stages that no run in runs=DIR uses; with --yes it also removes them."""


@dataclass(frozen=True)
class Request:
    """The command's arguments; see `USAGE`."""

    store: Path | None = None
    runs: Path | None = None
    collect: bool = key(False, name="--collect")
    yes: bool = key(False, name="--yes")


def main(argv: Sequence[str]) -> int:
    """Exit code of `doctor <argv>`: 2 if a stored stage is damaged."""
    return arguments.run(argv, USAGE, _examine, bare=True)


def _examine(argv: Sequence[str]) -> int:
    asked = arguments.parse(argv, Request, "doctor")
    runs = _folder("runs", asked.runs, Path("runs"), needed=asked.collect)
    default = Path(os.environ.get("RETRO_LAB_STORE") or runs / ".store")
    store = _folder("store", asked.store, default, needed=False)
    _show_environment()
    healthy = _verify(store)
    if asked.collect:
        _collect(store, runs, dry_run=not asked.yes)
    return 0 if healthy else EXIT_USER_ERROR


def _folder(key: str, given: Path | None, default: Path, needed: bool) -> Path:
    """The given folder, or the default one, which must exist only if `needed`.

    Raises:
        UserError: there is no such folder. A mistyped `runs` would make every stage look unused,
            and a mistyped `store` would look intact.
    """
    folder = given or default
    if (needed or given is not None) and not folder.is_dir():
        raise UserError(
            f"{key}={folder}: there is no such folder (looked in {Path.cwd()})",
            fix=f"{key}=<the folder that train.py was given, {default} by default>",
        )
    return folder


def _show_environment() -> None:
    from retro_lab.evaluation.records.environment import environment
    from retro_lab.nn.cpu import compiled

    compiled.describe()  # loads the compiled kernels, so that `environment` includes them
    for name, value in environment().items():
        words = value
        if isinstance(value, dict):
            words = ", ".join(f"{key} {item}" for key, item in value.items())
        elif isinstance(value, list):
            words = ", ".join(map(str, value)) or "none"
        print(f"{name:<12}{words}")


def _verify(store: Path) -> bool:
    from retro_lab.store import verify

    if not store.is_dir():
        print(f"store       {store}: nothing is stored yet")
        return True
    problems = verify(store)
    for problem in problems:
        print(problem.line())
    print(f"store       {store}: {'damaged' if problems else 'intact'}")
    return not problems


def _collect(store: Path, runs: Path, dry_run: bool) -> None:
    """Removes stages that are in no run's lineage."""
    from retro_lab.run.directory import RunDirectory
    from retro_lab.store import collect_garbage

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
