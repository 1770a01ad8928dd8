"""Tables of an evaluation: one row a scored chunk, and one row a scored token."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.schema import Config, Reference
from retro_lab.evaluation.measure.metrics import ChunkScores
from retro_lab.evaluation.measure.ngram_overlap import similarity
from retro_lab.evaluation.measure.overlap_stage import shared_runs
from retro_lab.evaluation.records.chunk_table import ChunkTable, Overlap, Reading
from retro_lab.evaluation.records.token_table import TokenTable

from ..data.graph import DataGraph
from .probes import exact_runs, longest_runs, matching_runs
from .table_rows import neighbours_read


def chunk_table(config: Config, graph: DataGraph, scores: dict[str, ChunkScores]) -> ChunkTable:
    """The table with one row a scored chunk."""
    chunks = graph.chunks
    rows = next(iter(scores.values())).rows
    ids = graph.corpus.ids
    read = np.empty((len(rows), 0), np.int64)
    overlap = alike = reading = None
    if graph.table is not None:
        k = config.scored_k
        read = neighbours_read(graph.chunks, graph.table.ids, rows, k).astype(np.int64)
        reading = _reading(config, graph, rows, read)
        if config.eval.ngram is not None:
            following = config.chunking.continuation_chunks
            alike = similarity(chunks, rows, read, following, config.eval.ngram)
        if config.eval.leakage:
            partial = (chunks.tokens[rows] == chunks.pad_id).any(axis=1)
            overlap = Overlap(_longest_runs(config, graph, rows, read), partial)
    document_ids = [ids[d] for d in chunks.document[rows]]
    table = ChunkTable.from_scores(
        scores, document_ids, chunks.index[rows], read, overlap, alike, reading
    )
    if not (config.memory.experts and config.eval.leakage):
        return table
    runs = exact_runs(graph, config.eval.split, rows)
    partial = (chunks.tokens[rows] == chunks.pad_id).any(axis=1)
    return dataclasses.replace(table, exact=Overlap(runs, partial))


def token_table(
    config: Config, graph: DataGraph, scores: dict[str, ChunkScores], asked: Sequence[str]
) -> TokenTable | None:
    """The table with one row a scored token; None if an `asked` condition lacks token scores."""
    by_token = {name: each for name, each in scores.items() if each.by_token is not None}
    if not by_token.keys() >= set(asked):
        return None
    chunks = graph.chunks
    rows = next(iter(scores.values())).rows
    longest = None
    exact = config.eval.leakage and config.eval.reference is Reference.exact_corpus
    if graph.table is not None and exact:
        split = chunks.chunks_of(config.eval.split)
        longest = matching_runs(graph, config)[np.searchsorted(split, rows)]
    return TokenTable.from_scores(by_token, chunks, rows, longest)


def _reading(
    config: Config, graph: DataGraph, rows: NDArray[np.int64], read: NDArray[np.int64]
) -> Reading:
    """Each neighbour's retrieval score and its longest run shared with the predicted chunk."""
    assert graph.table is not None
    following = config.chunking.continuation_chunks
    runs = np.zeros(read.shape, np.int32)
    for rank in range(read.shape[1]):
        runs[:, rank] = shared_runs(graph.chunks, rows, read[:, rank : rank + 1], following)
    scores = neighbours_read(graph.chunks, graph.table.scores, rows, read.shape[1])
    return Reading(scores, runs)


def _longest_runs(
    config: Config, graph: DataGraph, rows: NDArray[np.int64], read: NDArray[np.int64]
) -> NDArray[np.int32]:
    """[S] longest run of tokens that each scored chunk shares with the reference text."""
    chunks = graph.chunks
    if config.eval.reference is Reference.seen_neighbours:
        return shared_runs(chunks, rows, read, config.chunking.continuation_chunks)
    split = chunks.chunks_of(config.eval.split)
    return longest_runs(graph, config)[np.searchsorted(split, rows)]
