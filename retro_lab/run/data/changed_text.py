"""Whether the raw text behind a run or an evaluation is what it was, asked before any is prepared.

The same command may meet other text: a file was edited, a folder got another one. Nothing that was
made from the earlier text is overwritten or shown as if it were of the text that is there now.
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
    """Refuses raw text that is not what the run began with; one that has none yet takes any.

    Args:
        graph: reads the text that is there now.
        fix: what helps besides putting it back.

    Raises:
        UserError: naming the files that changed; or some can't be read.
    """
    changed = list(_changes(run, graph))
    if changed:
        raise UserError(
            f"the text behind {run.path} is not what it was made from: {'; '.join(changed)}",
            fix=f"{fix}; or put the text back as it was to go on with {run.path}",
        )


def check_shown(run: RunDirectory, graph: DataGraph, fix: str) -> None:
    """As `check_unchanged`, where figures are only shown again; text that is gone is a warning."""
    try:
        list(_changes(run, graph))
    except UserError as error:
        LOG.warning("whether the text behind %s changed is unknown: %s", run.path, error.message)
    else:
        check_unchanged(run, graph, fix)


def _changes(run: RunDirectory, graph: DataGraph) -> Iterator[str]:
    """A sentence for each corpus with another content than the run's."""
    keys = recorded_keys(graph.store, run.lineage)
    others = {f"corpus {other.name}": other for other in graph.searched.others}
    for role, source in {"corpus": graph.own, **others}.items():
        stage, key = source.corpus.stage, keys.get(role)
        if isinstance(stage, Stage) and key not in (None, stage.key):
            yield from _differences(graph, key, stage)


def _differences(graph: DataGraph, key: str, stage: Stage) -> Iterator[str]:
    """Input files that differ from those of the stored stage; none if only their reading does."""
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
