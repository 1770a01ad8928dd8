"""Chooses the example chunks of a run's page: the greatest gain, a middle one, and the smallest."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from retro_lab.config.schema import Config
from retro_lab.evaluation.measure.conditions import compared_with
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.examples_file import Example, ExampleNeighbour, Examples, Piece
from retro_lab.evaluation.report.pages.inspect_data import ReadNeighbour, ReadNeighbours
from retro_lab.evaluation.report.pages.inspect_text import Marks, ShownText, Span

from ..data.graph import DataGraph
from .table_rows import scored_rows


def example_chunks(config: Config, graph: DataGraph, table: ChunkTable) -> Examples | None:
    """Three chunks that read neighbours, by their gain; None for a run without retrieval.

    The chunks are whole ones; fewer are chosen of a split with fewer.
    """
    other = compared_with(table.nats)
    if graph.table is None or other is None or "on" not in table.nats:
        return None
    text = ShownText(graph.chunks, graph.corpus)
    following = config.chunking.continuation_chunks
    beside = ReadNeighbours(text, graph.table, config.scored_k, following)
    rows = scored_rows(graph.chunks, config.eval.split)
    gain = table.nats[other] - table.nats["on"]
    found = []
    for which, row in _chosen(gain, table).items():
        chunk = int(rows[row])
        neighbours, shared = beside.of(chunk, None)
        found.append(
            Example(
                which=which,
                document=str(table.document_id[row]),
                index=int(table.chunk_index[row]),
                gain=float(gain[row]),
                over=other,
                text=_pieces(list(text.spans(chunk, Marks(shared)))),
                neighbours=[_neighbour(each) for each in neighbours],
            )
        )
    return Examples(found)


def _chosen(gain: np.ndarray, table: ChunkTable) -> dict[str, int]:
    """Rows of the table by the reason for which they are shown."""
    whole = table.tokens == table.tokens.max(initial=0)
    rows = np.flatnonzero((table.with_retrieval == table.tokens) & whole)
    if not len(rows):
        return {}
    ordered = rows[np.argsort(-gain[rows], kind="stable")].tolist()
    named = {
        "greatest gain": ordered[0],
        "middle": ordered[len(ordered) // 2],
        "smallest gain": ordered[-1],
    }
    return {name: row for name, row in named.items() if list(named.values()).count(row) == 1}


def _neighbour(read: ReadNeighbour) -> ExampleNeighbour:
    return ExampleNeighbour(
        read.document, read.index, read.score, _pieces(read.spans), _pieces(read.continuation)
    )


def _pieces(spans: Sequence[Span]) -> list[Piece]:
    return [
        Piece("".join(span.text for span in run), shared)
        for shared, run in groupby(spans, key=lambda span: span.shared)
    ]
