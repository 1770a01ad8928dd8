"""Where a run's gain comes from: gain.json, a plot, and a page of documents token by token.

The gain of a run without retrieval is that of its memory, which has the page alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from retro_lab.config.schema import Config
from retro_lab.evaluation.measure.conditions import compared_with, judged, label
from retro_lab.evaluation.measure.gain import Gain, gain
from retro_lab.evaluation.measure.leakage import Leakage
from retro_lab.evaluation.measure.memory_scoring import DocumentTexts
from retro_lab.evaluation.measure.overlap import overlap_ratio
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.gain_file import GAIN_FILE, save_gain
from retro_lab.evaluation.records.token_table import TokenTable
from retro_lab.evaluation.report.gain_plot import plot_gain
from retro_lab.evaluation.report.pages.inspect_data import (
    Beside,
    InspectedDocument,
    Inspection,
    ReadNeighbours,
)
from retro_lab.evaluation.report.pages.inspect_memory import LeanedDocuments
from retro_lab.evaluation.report.pages.inspect_page import (
    MEMORY,
    NEIGHBOURS,
    OTHER_MEMORY,
    Words,
    write_page,
)
from retro_lab.evaluation.report.pages.inspect_text import ShownText

from ..data.graph import DataGraph
from ..data.memory_nodes import open_contexts
from ..directory import RunDirectory
from .table_rows import scored_rows

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


def memory_gain(table: ChunkTable, leakage: Leakage) -> Gain:
    """The gain of a memory over the model alone, of a run without retrieval."""
    return gain(table, leakage.bootstrap, a=judged(table.nats), b="baseline")


def write_inspection(
    config: Config,
    run: RunDirectory,
    graph: DataGraph,
    table: ChunkTable,
    tokens: TokenTable,
    found: Gain,
) -> None:
    """Writes inspect.html: the documents with the highest and lowest gain, token by token.

    The gain in `found` selects the documents and gives totals and colours.
    """
    most, least = found.ends(config.eval.pages)
    inspection = Inspection(graph.chunks, graph.corpus, _beside(config, graph))
    reads = "reading the neighbours" if graph.retrieves else "the memory"
    description = (
        f"Each token is coloured by what {reads} saved on it: the nats that {label(found.b)} needs "
        f"for it, less those of {label(found.a)}. A nat is 1.44 bits. Shown are the documents with "
        "the greatest and the smallest gain. Press a token, or move through a text with the arrow "
        "keys, to read its figures."
    )
    if tokens.memory is not None:
        description += (
            " Choosing a token also shows which part of its probability the memory gave "
            f"({label(judged(tokens.nats))}), and which expert most of it: suffix:5 is what "
            "followed the last 5 tokens."
        )
    names = list(dict.fromkeys(part.name for part in [*most, *least]))
    write_page(
        list(_documents(config, inspection, names, table, tokens, found)),
        run.path / INSPECT_FILE,
        title=run.base.path.name,
        description=description,
        words=_words(config),
    )


def _words(config: Config) -> Words:
    if config.retriever.retrieves:
        return NEIGHBOURS
    return MEMORY if "suffix" in config.memory.experts else OTHER_MEMORY


def _beside(config: Config, graph: DataGraph) -> Beside:
    """The neighbours that a model read; without retrieval what its memory leans on."""
    if graph.table is not None:
        text = ShownText(graph.chunks, graph.corpus)
        following = config.chunking.continuation_chunks
        return ReadNeighbours(text, graph.table, config.scored_k, following)
    searched, reads_contexts = graph.searched, "suffix" in config.memory.experts
    return LeanedDocuments(
        open_contexts(graph, config.memory) if reads_contexts else None,
        DocumentTexts(graph.chunks, searched.chunks),
        ShownText(searched.chunks, searched.corpus),
    )


def _documents(
    config: Config,
    inspection: Inspection,
    names: list[str],
    table: ChunkTable,
    tokens: TokenTable,
    found: Gain,
) -> Iterator[InspectedDocument]:
    """The documents of these names; r(C) without retrieval is that with a memory's text."""
    chunks, ids = inspection.chunks, inspection.corpus.ids
    rows, shape = scored_rows(chunks, config.eval.split), chunks.tokens.shape
    saved = tokens.spread(tokens.nats[found.b] - tokens.nats[found.a], rows, shape)
    memory, matching = tokens.spread_memory(rows, shape), None
    if tokens.longest_match is not None:
        matching = np.nan_to_num(tokens.spread(tokens.longest_match, rows, shape)).astype(np.int64)
    measured = table.exact if table.overlap is None else table.overlap
    overlap = None
    if measured is not None:
        overlap = np.zeros(len(chunks.tokens))
        overlap[rows] = overlap_ratio(measured.longest_run, table.tokens)
    for document in map(ids.index, names):
        first, last = chunks.first_chunk[document : document + 2]
        own = slice(int(first), int(last))
        yield inspection.document(
            document,
            saved[own],
            None if matching is None else matching[own],
            None if memory is None else memory[own],
            None if overlap is None else overlap[own],
        )
