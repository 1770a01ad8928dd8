"""What W&B's files hold, read by wandb's own reader of its records."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import wandb

_OF_A_USER = (
    *("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "NETRC", "WANDB_MODE", "WANDB_BASE_URL"),
    *("WANDB_PROJECT", "WANDB_ENTITY", "WANDB_RUN_GROUP", "WANDB_TAGS", "WANDB_NOTES"),
    *("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"),
)


@contextmanager
def without_login(home: Path) -> Iterator[pytest.MonkeyPatch]:
    """W&B as on a machine that never saw it, its own files under `home`."""
    with pytest.MonkeyPatch.context() as environment:
        for name in _OF_A_USER:
            environment.delenv(name, raising=False)
        for name, folder in {
            "HOME": home,
            "WANDB_CONFIG_DIR": home / "config",
            "WANDB_DATA_DIR": home / "data",
            "WANDB_CACHE_DIR": home / "cache",
        }.items():
            environment.setenv(name, str(folder))
        wandb.teardown()  # it reads its settings once a process
        try:
            yield environment
        finally:
            wandb.teardown()


def offline_files(run_dir: Path) -> list[Path]:
    """A run's files that wait for `wandb sync`, in the order they were begun."""
    return sorted(
        run_dir.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime
    )


def records(file: Path) -> list[dict[str, Any]]:
    """Every record of a file: its `type`, and what it says under that name."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return [json.loads(line) for line in done.stdout.splitlines()]


def one(found: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """What the only record of its kind says."""
    [record] = [record for record in found if record["type"] == kind]
    return record[kind]


def history(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Logged rows."""
    return [record["history"]["item"] for record in found if record["type"] == "history"]


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The last value of everything that was put in the summary."""
    whole: dict[str, Any] = {}
    for record in found:
        if record["type"] == "summary":
            whole |= record["summary"]["update"]
    return whole
