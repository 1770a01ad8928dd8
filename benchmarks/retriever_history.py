"""What each retriever of the literature finds in the same text, and what it costs.

    python benchmarks/retriever_history.py debug=limit --json benchmarks/retriever_history.json

Takes settings of train.py. Each retriever indexes the training split and searches ten neighbours,
with their continuations, for every chunk of the test split; nothing is trained. Seconds are CPU
time. The embedding of the database is part of building `faiss_flat`, and that of the chunks of its
search; both are scaled from a sample.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.compose import load_config
from retro_lab.config.schema import EditDistanceRetrieverConfig, RetrieverConfig
from retro_lab.evaluation.measure.overlap import longest_common_run, overlap_ratio
from retro_lab.retrieval.base import Neighbours, Rows, chunk_queries, text_tokens
from retro_lab.retrieval.embed.embedders import build_embedder
from retro_lab.retrieval.filters.exclusion import search_filled
from retro_lab.retrieval.search.registry import build_retriever
from retro_lab.run.data.graph import DataGraph
from retro_lab.text.chunks import ChunkStore

RETRIEVERS = ("bm25", "tfidf", "faiss_flat", "lda", "edit_distance", "random", "oracle")
NEIGHBOURS = 10  # as r(C) reads
RUN = 8  # tokens in a row that count as copied
SAMPLED = 4  # every fourth chunk is compared with the whole database
SIMILARITIES = (0.0, 0.3, 0.6)  # of two chunks, by edit distance
EMBEDDED = 128  # chunks that the seconds of embedding are scaled from

Figures = dict[str, dict[str, float]]


def main() -> None:
    arguments = _arguments()
    found = measure(arguments.overrides)
    show(found["retrievers"])
    print(json.dumps({name: each for name, each in found.items() if name != "retrievers"}))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


def measure(overrides: list[str]) -> dict[str, Any]:
    """Figures of every retriever, and how often the pool of edit distance lacks the nearest."""
    graph = DataGraph(load_config(overrides))
    chunks = graph.own.chunks.data
    asked = chunks.chunks_of("test")
    figures: Figures = {}
    tables: dict[str, Neighbours] = {}
    for name in RETRIEVERS:
        tables[name], seconds = searched(graph, load_config([f"retriever={name}"]).retriever, asked)
        figures[name] = {**overlap(chunks, asked, tables[name].ids), **seconds}
        figures[name]["shared_with_bm25"] = shared(tables[name].ids, tables["bm25"].ids)
    return {
        "database_chunks": len(chunks.searched),
        "test_chunks": len(asked),
        "test_documents": len(np.unique(chunks.document[asked])),
        "edit_distance_pool": pool_misses(graph, asked, tables["edit_distance"].scores[:, 0]),
        "retrievers": figures,
    }


def pool_misses(
    graph: DataGraph, asked: NDArray[np.int64], found: NDArray[np.float32]
) -> dict[str, list[int]]:
    """Chunks with a nearer one outside the pool, and all, by the least similarity of the nearest.

    Args:
        asked: [Q] chunks, of which every fourth is compared with the whole database.
        found: [Q] similarity of the best neighbour in the pool.
    """
    every = EditDistanceRetrieverConfig(pool=len(graph.own.chunks.data.searched))
    best = searched(graph, every, asked[::SAMPLED])[0].scores[:, 0]
    missed = best > found[::SAMPLED]
    kept = {str(least): best >= least for least in SIMILARITIES}
    return {least: [int(missed[some].sum()), int(some.sum())] for least, some in kept.items()}


def searched(
    graph: DataGraph, config: RetrieverConfig, asked: NDArray[np.int64]
) -> tuple[Neighbours, dict[str, float]]:
    """Ten neighbours of each chunk [Q], and the seconds to build the index and to search."""
    chunks, ids = graph.own.chunks.data, graph.own.chunks.data.searched
    embedded = graph.own.embeddings.data if config.needs_embeddings else None
    retriever = build_retriever(config)

    def tokens(ids: NDArray[np.int64]) -> NDArray[np.int32]:
        return text_tokens(chunks.tokens[ids], chunks.pad_id, chunks.boundary_id)

    begun = time.process_time()
    retriever.build(ids, tokens(ids), None if embedded is None else Rows(ids, embedded.of))
    build = time.process_time() - begun
    begun = time.process_time()
    queries = chunk_queries(chunks, embedded, asked)
    found = search_filled(retriever, queries, NEIGHBOURS, chunks.identity)
    search = time.process_time() - begun
    each = 0.0 if embedded is None else seconds_to_embed(graph, ids)
    build, search = build + each * len(ids), search + each * len(asked)
    return found, {"build_s": round(build, 2), "search_s": round(search, 2)}


def seconds_to_embed(graph: DataGraph, ids: NDArray[np.int64]) -> float:
    """Seconds a chunk, from a sample of `EMBEDDED` chunks."""
    sample = ids[np.linspace(0, len(ids) - 1, EMBEDDED).astype(np.int64)]
    texts = graph.own.chunks.data.texts(sample, graph.own.corpus.data)
    embedder = build_embedder(graph.groups.embedder)
    embedder.embed(texts[:1])  # loads the model
    begun = time.process_time()
    embedder.embed(texts)
    return (time.process_time() - begun) / len(texts)


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
