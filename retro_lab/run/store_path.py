"""Where a run's stages are kept. Its config.yaml may come from someone else, so a folder that this
file alone names is used only if it is a store already: nothing is written anywhere else.
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
    """The store to look in, and to build in what is missing.

    RETRO_LAB_STORE comes first; then the store beside the run, where it lay below the runs' folder;
    then the one that `config` names; then a new one beside the run.

    Args:
        run: the run's directory.
        config: as its config.yaml has it.

    Raises:
        UserError: a new store would be made where a link leads to.
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
        _say_once(f"{run} names store.dir={named}, where no store is; {own} is used")
    return str(own)


@cache
def _say_once(message: str) -> None:
    LOG.warning(message)
