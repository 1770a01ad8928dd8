"""The planner's times beside those of real runs, measured one after the other, several times.

    python benchmarks/plan.py --json plan.json
    python benchmarks/plan.py -- corpus=jsonl corpus.path=manuals.jsonl

CPU seconds beside wall seconds: other processes move the wall's, and prediction and run then differ
for no reason of the planner's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from retro_lab.config.compose import load_config
from retro_lab.planner.plan import Database
from retro_lab.planner.plan_rates import measure_embed, measure_search
from retro_lab.retrieval.embed.embedders import build_embeddings
from retro_lab.retrieval.index_stage import build_index
from retro_lab.retrieval.table import build_neighbours
from retro_lab.run.data.graph import DataGraph
from retro_lab.store.workspace import Workspace

CLOCKS: dict[str, Callable[[], float]] = {"cpu": time.process_time, "wall": time.perf_counter}


def main() -> None:
    arguments = _arguments()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for max_bytes in arguments.bytes:
            for retriever in arguments.retrievers:
                rows += compare(retriever, max_bytes, arguments, Path(folder))
    show(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


def compare(
    retriever: str, max_bytes: int, arguments: argparse.Namespace, folder: Path
) -> list[dict[str, Any]]:
    """A row for the search, and one for embedding where the retriever needs it."""
    overrides = [*arguments.overrides, f"retriever={retriever}", f"embedder={arguments.embedder}"]
    overrides += [f"corpus.max_bytes={max_bytes}", f"store.dir={folder}/store"]
    graph = DataGraph(load_config(overrides))
    chunks, config = graph.own.chunks.data, graph.groups
    dense = config.retriever.needs_embeddings
    vectors = graph.own.embeddings.data if dense else None
    planned = Database(
        chunks=chunks.num_chunks,
        database=len(chunks.searched),
        documents=chunks.num_documents,
        text_bytes=int(chunks.token_bytes.sum(dtype=np.int64)),
        chunk_size=chunks.chunk_size,
        vocab_size=chunks.vocab_size,
        distinct=0.65,
    )
    width, k = (vectors.dim if vectors else 0), config.neighbours.k_store
    index = Path(tempfile.mkdtemp(dir=folder))
    build_index(config.retriever, chunks, vectors, Workspace(index))

    def search() -> None:
        target = Workspace(Path(tempfile.mkdtemp(dir=folder)))
        build_neighbours(config.retriever, k, chunks, vectors, index, target)

    found = [
        _row(
            f"{retriever}, search",
            planned.chunks,
            lambda clock: measure_search(config.retriever, planned, width, k, clock),
            search,
            arguments.repeats,
        )
    ]
    if dense:

        def embed() -> None:
            target = Workspace(Path(tempfile.mkdtemp(dir=folder)))
            build_embeddings(config.embedder, chunks, graph.own.corpus.data, target)

        found.append(
            _row(
                f"{arguments.embedder}, embedding",
                planned.chunks,
                lambda clock: measure_embed(config.embedder, planned, clock),
                embed,
                arguments.repeats,
            )
        )
    return found


def _row(
    what: str,
    chunks: int,
    rate: Callable[[Callable[[], float]], float],
    run: Callable[[], None],
    repeats: int,
) -> dict[str, Any]:
    """Planned and real seconds by both clocks, medians of `repeats` in turns."""
    seconds: dict[str, list[float]] = {}
    for _ in range(repeats):
        for name, clock in CLOCKS.items():
            seconds.setdefault(f"planned_{name}_s", []).append(chunks / rate(clock))
        begun = {name: clock() for name, clock in CLOCKS.items()}
        run()
        for name, clock in CLOCKS.items():
            seconds.setdefault(f"real_{name}_s", []).append(clock() - begun[name])
    medians = {name: round(statistics.median(values), 3) for name, values in seconds.items()}
    ratios = {
        f"{name}_ratio": round(medians[f"planned_{name}_s"] / medians[f"real_{name}_s"], 2)
        for name in CLOCKS
    }
    return {"what": what, "chunks": chunks, **medians, **ratios}


def show(rows: list[dict[str, Any]]) -> None:
    """One line a run."""
    table = Table(*rows[0], show_edge=False)
    for row in rows:
        table.add_row(
            *(f"{value:,}" if not isinstance(value, str) else value for value in row.values())
        )
    Console(width=160).print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bytes", type=int, nargs="+", default=[1_000_000, 4_000_000])
    parser.add_argument("--retrievers", nargs="+", default=["faiss_flat", "faiss_ivfpq", "bm25"])
    parser.add_argument("--embedder", default="hashing")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*", help="of another corpus, after --")
    return parser.parse_args()


if __name__ == "__main__":
    main()
