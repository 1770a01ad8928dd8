"""Checks, before data is prepared, that the raw text behind a run or an evaluation is unchanged.

Input files may have been edited, added or removed since the run began. Without this check, results
of the old text would be overwritten, or shown as results of the new text.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from retro_lab.config.errors import UserError
from retro_lab.store import Stage

from ..directory import RunDirectory
from .graph import DataGraph
from .recorded import recorded_keys

LOG = logging.getLogger("retro_lab")
TRAIN_ANEW = "runs_dir=<a new folder> trains on the text that is there now"


def check_unchanged(run: RunDirectory, graph: DataGraph, fix: str) -> None:
    """Refuses raw text that differs from the run's; a run without recorded data accepts any.

    Args:
        graph: reads the current text.
        fix: for the error message, an alternative to restoring the text.

    Raises:
        UserError: naming the files that changed, or a file that can't be read.
    """
    changed = list(_changes(run, graph))
    if changed:
        raise UserError(
            f"the text behind {run.path} is not what it was made from: {'; '.join(changed)}",
            fix=f"{fix}; or put the text back as it was to go on with {run.path}",
        )


def check_unchanged_if_readable(run: RunDirectory, graph: DataGraph, fix: str) -> None:
    """Like `check_unchanged`, but text that can't be read only logs a warning."""
    try:
        list(_changes(run, graph))
    except UserError as error:
        LOG.warning("whether the text behind %s changed is unknown: %s", run.path, error.message)
    else:
        check_unchanged(run, graph, fix)


def _changes(run: RunDirectory, graph: DataGraph) -> Iterator[str]:
    """One message for each changed file of the corpora, the run's own and the searched ones."""
    keys = recorded_keys(graph.store, run.lineage)
    others = {f"corpus {other.name}": other for other in graph.searched.others}
    for role, source in {"corpus": graph.own, **others}.items():
        stage, key = source.corpus.stage, keys.get(role)
        if isinstance(stage, Stage) and key not in (None, stage.key):
            yield from _differences(graph, key, stage)


def _differences(graph: DataGraph, key: str, stage: Stage) -> Iterator[str]:
    """One message for each input file that differs from the stored stage's.

    Yields nothing if only the settings for reading the files changed.
    """
    was = graph.store.spec("corpus", key)
    if was is None:
        yield f"{stage} was corpus/{key}"
        return
    before, now = was["inputs"], stage.spec["inputs"]
    for name in sorted({*before, *now}):
        if name not in now:
            yield f"{name} is no longer there"
        elif name not in before:
            yield f"{name} is new"
        elif before[name] != now[name]:
            yield f"{name} has another content"
