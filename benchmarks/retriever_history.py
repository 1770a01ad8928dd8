"""What each retriever of the literature finds in the same text, and what it costs.

    python benchmarks/retriever_history.py debug=limit --json benchmarks/retriever_history.json

Takes settings of train.py. Each retriever indexes the training split and searches ten neighbours,
with their continuations, for every chunk of the test split; nothing is trained. Seconds are of one
process, embedding of all chunks included in the building of `faiss_flat`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.compose import load_config
from retro_lab.config.schema import EditDistanceRetrieverConfig, RetrieverConfig
from retro_lab.evaluation.measure.overlap import longest_common_run, overlap_ratio
from retro_lab.retrieval.base import Neighbours, Rows, chunk_queries, text_tokens
from retro_lab.retrieval.filters.exclusion import search_filled
from retro_lab.retrieval.search.registry import build_retriever
from retro_lab.run.data.graph import DataGraph
from retro_lab.text.chunks import ChunkStore

RETRIEVERS = ("bm25", "tfidf", "faiss_flat", "lda", "edit_distance", "random", "oracle")
NEIGHBOURS = 10  # as r(C) reads
RUN = 8  # tokens in a row that count as copied

Figures = dict[str, dict[str, float]]


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as store:
        found = measure([*arguments.overrides, f"store.dir={store}"])
    show(found["retrievers"])
    print(json.dumps({name: each for name, each in found.items() if name != "retrievers"}))
    if arguments.json:
        found["settings"] = arguments.overrides
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


def measure(overrides: list[str]) -> dict[str, Any]:
    """Figures of every retriever, and the share of chunks that edit distance's pool fails."""
    graph = DataGraph(load_config(overrides))
    chunks = graph.own.chunks.data
    asked = chunks.chunks_of("test")
    figures: Figures = {}
    tables: dict[str, Neighbours] = {}
    for name in RETRIEVERS:
        tables[name], seconds = searched(graph, load_config([f"retriever={name}"]).retriever, asked)
        figures[name] = {**overlap(chunks, asked, tables[name].ids), **seconds}
        figures[name]["shared_with_bm25"] = shared(tables[name].ids, tables["bm25"].ids)
    every = EditDistanceRetrieverConfig(pool=len(chunks.searched))
    best = searched(graph, every, asked)[0].scores[:, 0]
    return {
        "database_chunks": len(chunks.searched),
        "test_chunks": len(asked),
        "test_documents": len(np.unique(chunks.document[asked])),
        "edit_distance_pool_misses": float((best > tables["edit_distance"].scores[:, 0]).mean()),
        "retrievers": figures,
    }


def searched(
    graph: DataGraph, config: RetrieverConfig, asked: NDArray[np.int64]
) -> tuple[Neighbours, dict[str, float]]:
    """Ten neighbours of each chunk [Q], and the seconds to build the index and to search."""
    chunks, ids = graph.own.chunks.data, graph.own.chunks.data.searched
    embeddings = graph.own.embeddings if config.needs_embeddings else None
    embedded = None if embeddings is None else embeddings.data
    retriever = build_retriever(config)

    def tokens(ids: NDArray[np.int64]) -> NDArray[np.int32]:
        return text_tokens(chunks.tokens[ids], chunks.pad_id, chunks.boundary_id)

    begun = time.perf_counter()
    retriever.build(ids, tokens(ids), None if embedded is None else Rows(ids, embedded.of))
    build = time.perf_counter() - begun
    begun = time.perf_counter()
    queries = chunk_queries(chunks, embedded, asked)
    found = search_filled(retriever, queries, NEIGHBOURS, chunks.identity)
    search = time.perf_counter() - begun
    if embeddings is not None:
        build += embeddings.artifact.manifest["seconds"]
    return found, {"build_s": round(build, 2), "search_s": round(search, 2)}


def overlap(
    chunks: ChunkStore, asked: NDArray[np.int64], ids: NDArray[np.int64]
) -> dict[str, float]:
    """Runs that chunks [Q] share with their neighbours [Q, K] and the continuations."""
    tokens = chunks.tokens[asked]
    special = chunks.pad_id, chunks.boundary_id
    best, longest = (
        longest_common_run(tokens, chunks.values(read, 1), *special) for read in (ids[:, :1], ids)
    )
    text = (~np.isin(tokens, special)).sum(axis=1)
    return {
        "best_shares_run": float((best >= RUN).mean()),
        "mean_r": float(overlap_ratio(longest, text).mean()),
    }


def shared(ids: NDArray[np.int64], others: NDArray[np.int64]) -> float:
    """Share of the neighbours [Q, K] that are among the others' of the same chunk."""
    here = ids >= 0
    both = (ids[:, :, None] == others[:, None, :]).any(axis=2) & here
    return float(both.sum() / max(1, here.sum()))


def show(figures: Figures) -> None:
    """A Markdown table with a row for each retriever."""
    print(
        f"| retriever | best shares {RUN} | mean r(C) | shared with bm25 | build, s | search, s |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for name, each in figures.items():
        print(
            f"| `{name}` | {each['best_shares_run']:.0%} | {each['mean_r']:.3f} "
            f"| {each['shared_with_bm25']:.0%} | {each['build_s']:.1f} | {each['search_s']:.1f} |"
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="settings of train.py")
    parser.add_argument("--json", type=Path, help="where the figures go")
    return parser.parse_args()


if __name__ == "__main__":
    main()
