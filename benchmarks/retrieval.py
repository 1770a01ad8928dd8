"""How fast the data side is, stage by stage, and what it costs over the raw libraries.

    python benchmarks/retrieval.py --json retrieval.json

Text of Python's standard library by default, --corpus FILE.jsonl for another. Everything is built
in a temporary folder by the same code that `prepare` and `train.py` run.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from against_raw import Compared, bm25, embedding, faiss_build, faiss_search
from rich.console import Console
from rich.table import Table

from retro_lab.config.compose import load_config
from retro_lab.config.schema import Config, PythonCorpusConfig
from retro_lab.retrieval.base import NO_CHUNK, chunk_queries, text_tokens
from retro_lab.retrieval.embed.embedders import build_embedder
from retro_lab.retrieval.filters.exclusion import search_filled
from retro_lab.retrieval.filters.leak_filter import LeakFilter
from retro_lab.retrieval.search.registry import load_retriever
from retro_lab.run.data.graph import DataGraph
from retro_lab.text.readers import Malformed, read_documents

FACTORIES = ("Flat", "IVF{nlist},Flat", "IVF{nlist},PQ{pq}", "HNSW32", "SQ8")
BACKENDS = ("bm25", "tfidf", "random", "faiss_flat", "faiss_ivfpq", "dense_bm25_rerank", "hybrid")
RUNS = (8, 16, 32)  # neighbours.max_run
DEPTH = 80  # candidates that a table of 16 neighbours fetches at first

_WARM_START = Path(__file__).with_name("warm_start.py")


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        text_bytes: of the corpus that is prepared.
        embedded: chunks of it that are embedded for the overhead.
        vectors: of the FAISS indexes: the corpus's own, and copies with noise.
        queries: searched at once.
        repeats: of each comparison.
    """

    text_bytes: int
    embedded: int
    vectors: int
    queries: int
    repeats: int


FULL = Sizes(text_bytes=2_000_000, embedded=512, vectors=65_536, queries=1_024, repeats=5)
QUICK = Sizes(text_bytes=300_000, embedded=64, vectors=4_096, queries=256, repeats=3)


def main() -> None:
    arguments = _arguments()
    sizes = QUICK if arguments.quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        corpus = arguments.corpus or _standard_library(work / "corpus.jsonl")
        figures = measure(corpus.resolve(), sizes, work)
    show(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(corpus: Path, sizes: Sizes, work: Path) -> dict[str, Any]:
    """Every figure, as it goes into the JSON file."""
    overrides = [
        "corpus=jsonl",
        f"corpus.path={corpus}",
        f"corpus.max_bytes={sizes.text_bytes}",
        "corpus.split.validation=0.15",
        "corpus.split.test=0.2",
        "retriever=faiss_flat",
        "embedder=minilm",
        "eval.leakage=false",
        f"store.dir={work}/store",
        f"runs_dir={work}/runs",
    ]
    config = load_config(overrides)
    begun = time.perf_counter()
    _ = DataGraph(config).neighbours(config.retriever).artifact
    end_to_end = time.perf_counter() - begun
    graph = DataGraph(config)

    raw = compare_with_libraries(graph, sizes)
    filtering = {str(run): leak_filtering(graph, run, sizes) for run in RUNS}
    return {
        "embed_overhead": raw["embedding"]["overhead"],
        "faiss_overhead": raw["search Flat"]["overhead"],
        "bm25_overhead": raw["search bm25"]["overhead"],
        "filter_neighbours_per_s": min(run["neighbours_per_s"] for run in filtering.values()),
        "warm_start_s": (warm := warm_start(overrides))["to_first_step_s"],
        "jsonl_to_neighbours_s": round(end_to_end, 2),
        "computed_from": {
            "sizes": vars(sizes),
            "stages": stages(graph),
            "against_libraries": raw,
            "filter_and_table": filtering,
            "backends": {name: backend(config, name, sizes) for name in BACKENDS},
            "warm_start": warm,
            "machine": {"python": platform.python_version(), "processor": platform.machine()},
        },
    }


def stages(graph: DataGraph) -> dict[str, Any]:
    """Seconds of each stage as the store recorded them, and what went through it."""
    config = graph.groups
    corpus, chunks = graph.own.corpus.data, graph.own.chunks.data
    built = [graph.own.corpus, graph.tokenizer, graph.own.chunks, graph.own.embeddings]
    built += [graph.index(config.retriever), graph.neighbours(config.retriever)]
    tokens = int((chunks.tokens != chunks.pad_id).sum()) - chunks.num_documents
    work = {"documents": corpus.num_documents, "chunks": chunks.num_chunks, "tokens": tokens}
    found = {}
    for artifact in (node.artifact for node in built):
        seconds = artifact.manifest["seconds"]
        rates = {f"{name}_per_s": round(count / max(seconds, 1e-3)) for name, count in work.items()}
        found[artifact.stage] = {"seconds": seconds, **rates}
    return {"of": work, **found}


def compare_with_libraries(graph: DataGraph, sizes: Sizes) -> dict[str, Any]:
    """Build and search of FAISS and bm25s, and sentence-transformers, each against ours."""
    chunks, corpus, config = graph.own.chunks.data, graph.own.corpus.data, graph.groups
    found: dict[str, Compared] = {}
    embedder = build_embedder(config.embedder)
    ids = np.linspace(0, chunks.num_chunks - 1, sizes.embedded).astype(np.int64)
    found["embedding"] = embedding(
        lambda: embedder.embed(chunks.texts(ids, corpus)).astype(np.float16),
        chunks.texts(ids, corpus),
        getattr(config.embedder, "batch_size", 64),
        sizes.repeats,
    )
    vectors = _vectors(graph, sizes.vectors)
    queries = vectors[np.linspace(0, len(vectors) - 1, sizes.queries).astype(np.int64)]
    for factory in FACTORIES:
        found[f"search {factory}"] = faiss_search(factory, vectors, queries, DEPTH, sizes.repeats)
        if factory != "Flat":
            found[f"build {factory}"] = faiss_build(factory, vectors[: 2**14], repeats=1)
    ids = chunks.searched
    tokens = text_tokens(chunks.tokens[ids], chunks.pad_id, chunks.boundary_id)
    asked = tokens[np.linspace(0, len(tokens) - 1, sizes.queries).astype(np.int64)]
    found["build bm25"], found["search bm25"] = bm25(tokens, asked, DEPTH, sizes.repeats)
    return {name: compared.as_json() for name, compared in found.items()}


def leak_filtering(graph: DataGraph, max_run: int, sizes: Sizes) -> dict[str, Any]:
    """Neighbours/s of the filter, and of all of a table but its search: exclusion, filter, refill.

    The candidates are BM25's, which share far more text with the query than dense ones do.
    """
    chunks = graph.own.chunks.data
    config = load_config(["retriever=bm25"]).retriever
    _ = graph.neighbours(config).artifact
    artifact = graph.index(config).artifact
    searching = _Timed(load_retriever(config, artifact.path))
    filtering = _TimedFilter(LeakFilter(max_run, continuation_chunks=1).of(chunks))
    ids = np.arange(min(chunks.num_chunks, 4 * sizes.queries))
    queries, rates, asked_rates = chunk_queries(chunks, None, ids), [], []
    for _ in range(sizes.repeats):
        searching.seconds = filtering.seconds = 0.0
        filtering.asked = 0
        begun = time.perf_counter()
        found = search_filled(searching, queries, 16, chunks.document, filtering)
        table = time.perf_counter() - begun - searching.seconds
        rates.append(int((found.ids != NO_CHUNK).sum()) / table)
        asked_rates.append(filtering.asked / filtering.seconds)
    return {
        "neighbours_per_s": round(statistics.median(rates)),
        "filter_alone_per_s": round(statistics.median(asked_rates)),
    }


def backend(config: Config, name: str, sizes: Sizes) -> dict[str, Any]:
    """Queries/s of a whole table search, exclusion included; recall where it is approximate."""
    retriever = load_config([f"retriever={name}"]).retriever
    graph = DataGraph(replace(config, retriever=retriever))
    built = graph.neighbours(retriever).artifact
    index = graph.index(retriever).artifact
    return {
        "index_s": index.manifest["seconds"],
        "queries_per_s": built.stats["queries_per_second"],
        "recall_at_10": built.stats["recall_at_10"],
    }


def warm_start(overrides: list[str]) -> dict[str, float]:
    """A fresh process that finds everything in the store: seconds of imports, and from there on."""
    command = [sys.executable, str(_WARM_START), *overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


class _Timed:
    """A retriever, and the seconds spent in its search."""

    def __init__(self, retriever: Any) -> None:
        self._retriever = retriever
        self.seconds = 0.0

    def candidates(self, *arguments: Any) -> Any:
        begun = time.perf_counter()
        found = self._retriever.candidates(*arguments)
        self.seconds += time.perf_counter() - begun
        return found


class _TimedFilter:
    """A pair filter, its seconds, and the pairs it was asked about."""

    def __init__(self, passes: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        self._passes = passes
        self.seconds, self.asked = 0.0, 0

    def __call__(self, query_ids: np.ndarray, ids: np.ndarray) -> np.ndarray:
        begun = time.perf_counter()
        kept = self._passes(query_ids, ids)
        self.seconds += time.perf_counter() - begun
        self.asked += len(ids)
        return kept


def _vectors(graph: DataGraph, count: int) -> np.ndarray:
    """Unit vectors: the corpus's embeddings, repeated with noise as long as half of each."""
    real = graph.own.embeddings.data.vectors
    rng = np.random.default_rng(0)
    picked = real[np.arange(count) % len(real)].astype(np.float32)
    noise = rng.standard_normal(picked.shape, np.float32) * (0.5 / np.sqrt(picked.shape[1]))
    vectors = picked + noise
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _standard_library(target: Path) -> Path:
    """As JSON lines, of which `corpus.max_bytes` draws a sample."""
    config = PythonCorpusConfig()
    with target.open("w", encoding="utf-8") as file:
        for document in read_documents(config, Malformed(config.on_error)):
            file.write(json.dumps({"id": document.id, "text": document.text}) + "\n")
    return target


def show(figures: dict[str, Any]) -> None:
    """The JSON's figures as tables."""
    console, origin = Console(), figures["computed_from"]
    for name, value in figures.items():
        if name != "computed_from":
            console.print(f"{name:<26}{value:,}")
    for title in ("stages", "against_libraries", "backends", "filter_and_table"):
        rows = {name: row for name, row in origin[title].items() if name != "of"}
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        table = Table("", *columns, title=title, title_justify="left", show_edge=False)
        for name, row in rows.items():
            table.add_row(name, *(_cell(row.get(column)) for column in columns))
        console.print(table)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:,}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a minute, to see that it works")
    parser.add_argument("--corpus", type=Path, help="JSON lines with the field text")
    parser.add_argument("--json", type=Path, help="where the figures go")
    return parser.parse_args()


if __name__ == "__main__":
    main()
