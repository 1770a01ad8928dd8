"""Finds the store of a run.

config.yaml may come from an untrusted source, so a folder named there is used only if it is a store
already; a new store is only made beside the run.
"""

from __future__ import annotations

import logging
import os
from functools import cache
from pathlib import Path

from retro_lab.config.errors import UserError
from retro_lab.config.schema import Config
from retro_lab.store.store import is_store

LOG = logging.getLogger("retro_lab")


def store_of(run: Path, config: Config) -> str:
    """The folder of the run's store, the first of these that applies:

    RETRO_LAB_STORE; a store below the run's parent folder, if `store.dir` lies below `runs_dir`;
    `store.dir`, if it is a store; `.store` beside the run, new if necessary.

    Args:
        run: the run's directory.
        config: by its config.yaml.

    Raises:
        UserError: `.store` is a link to a folder that is no store.
    """
    if given := os.environ.get("RETRO_LAB_STORE"):
        return given
    named, runs, own = Path(config.store.dir), Path(config.runs_dir), run.parent / ".store"
    below = named.is_relative_to(runs) and ".." not in named.parts
    beside = [run.parent / named.relative_to(runs)] if below else []
    for folder in (*beside, named, own):
        if is_store(folder):
            return str(folder)
    if own.is_symlink():
        raise UserError(
            f"{own} is a link, and where it leads is no store", fix="remove it, or set store.dir"
        )
    if not below:
        _warn_once(f"{run} names store.dir={named}, where no store is; {own} is used")
    return str(own)


@cache
def _warn_once(message: str) -> None:
    LOG.warning(message)
