"""Where a run's gain comes from: gain.json, a plot, and a page of documents token by token."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.schema import Config
from retro_lab.evaluation.measure.conditions import compared_with, label
from retro_lab.evaluation.measure.gain import Gain, gain
from retro_lab.evaluation.measure.leakage import Leakage
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.gain_file import GAIN_FILE, save_gain
from retro_lab.evaluation.records.token_table import TokenTable
from retro_lab.evaluation.report.gain_plot import plot_gain
from retro_lab.evaluation.report.inspect_data import InspectedDocument, Inspection
from retro_lab.evaluation.report.inspect_page import write_page

from ..data.graph import DataGraph
from ..directory import RunDirectory
from .scores import scored_rows

INSPECT_FILE = "inspect.html"
PLOT_FILE = "gain.png"
GAIN_FILES = (GAIN_FILE, PLOT_FILE)


def record_gain(
    config: Config,
    run: RunDirectory,
    table: ChunkTable,
    tokens: TokenTable | None,
    leakage: Leakage,
) -> Gain | None:
    """Writes gain.json and gain.png; returns the analysis, or None if no reference was scored.

    The gain of RETRO[ON] is measured over the plain model or, if that was not scored, over the
    baseline or the backbone.
    """
    scored = table.nats if tokens is None else tokens.nats
    other = compared_with(scored)
    if other is None or "on" not in scored:
        return None
    found = gain(table, leakage.bootstrap, tokens, b=other)
    save_gain(found, run.path / GAIN_FILE)
    plot_gain(
        found,
        run.path / PLOT_FILE,
        corpus=config.corpus.name,
        model=f"{config.model.name}, {config.retriever.name}, k={config.scored_k}",
        reference=leakage.reference,
    )
    return found


def write_inspection(
    config: Config,
    run: RunDirectory,
    graph: DataGraph,
    tokens: TokenTable,
    found: Gain,
) -> None:
    """Writes inspect.html: the documents with the highest and lowest gain, token by token.

    The gain in `found` selects the documents and gives totals and colours.
    """
    assert graph.table is not None
    ids = graph.corpus.ids
    most, least = found.ends(config.eval.pages)
    names = list(dict.fromkeys(part.name for part in [*most, *least]))
    documents = [ids.index(name) for name in names]
    rows, shape = scored_rows(graph.chunks, config.eval.split), graph.chunks.tokens.shape
    saved = tokens.spread(tokens.nats[found.b] - tokens.nats[found.a], rows, shape)
    matching = None
    if tokens.longest_match is not None:
        matching = np.nan_to_num(tokens.spread(tokens.longest_match, rows, shape)).astype(np.int64)
    inspection = Inspection(
        graph.chunks,
        graph.corpus,
        graph.table,
        config.scored_k,
        config.chunking.continuation_chunks,
    )
    write_page(
        list(_documents(inspection, documents, saved, matching)),
        run.path / INSPECT_FILE,
        title=run.path.name,
        description="Each token is coloured by what reading the neighbours saved on it: nats of "
        f"{label(found.b)} less nats of {label(found.a)}. The documents are those on which that is "
        "most, and least.",
        minimum_run=inspection.minimum_run,
    )


def _documents(
    inspection: Inspection,
    documents: list[int],
    saved: NDArray[np.float64],
    matching: NDArray[np.integer] | None,
) -> Iterator[InspectedDocument]:
    for document in documents:
        first, last = inspection.chunks.first_chunk[document : document + 2]
        rows = slice(int(first), int(last))
        yield inspection.document(
            document, saved[rows], None if matching is None else matching[rows]
        )
