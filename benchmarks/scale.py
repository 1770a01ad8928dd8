"""Ten million chunks on one machine: an IVF-PQ index built in blocks that resume, and searched.

    python benchmarks/scale.py --corpus my.jsonl --work scale --json scale.json

Real chunks are embedded once. Chunk i of the ten million lies between real vector i modulo their
number and another one drawn at random, with seeded noise. They are made block by block whenever
they are read, and the project's own index stage builds from them. Killed, it goes on by the same
command and has lost at most one block.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from retro_lab.config.compose import load_config
from retro_lab.config.schema import FaissRetrieverConfig
from retro_lab.retrieval.base import Queries, Rows
from retro_lab.retrieval.search.exact_search import ExactSearch
from retro_lab.retrieval.search.faiss_blocks import BLOCK
from retro_lab.retrieval.search.faiss_index import FaissRetriever
from retro_lab.run.data.graph import DataGraph
from retro_lab.store import Artifact, ArtifactStore, Stage, Workspace

NOISE = 0.3  # length of the noise, where a real vector has length 1
TOP = 10


@dataclass
class Vectors:
    """The synthetic embeddings: float32 rows that follow from their number alone.

    Attributes:
        real: float32 [R, E], unit vectors.
        count: how many there are.
    """

    real: np.ndarray
    count: int
    _last: tuple[int, np.ndarray] = field(default=(-1, np.empty(0)))

    @property
    def rows(self) -> Rows:
        """All of them, made when they are read."""
        return Rows(np.arange(self.count), self.of)

    def of(self, ids: np.ndarray) -> np.ndarray:
        """Float32 [n, E], vectors by number."""
        found = np.empty((len(ids), self.real.shape[1]), np.float32)
        for number in np.unique(ids // BLOCK).tolist():
            here = ids // BLOCK == number
            if self._last[0] != number:
                self._last = number, self.made(number)
            found[here] = self._last[1][ids[here] % BLOCK]
        return found

    def made(self, number: int, *, stream: int = 0) -> np.ndarray:
        """Unit vectors of block `number`; another stream has other draws."""
        first = number * BLOCK
        size = min(BLOCK, self.count - first)
        rng = np.random.default_rng([stream, number])
        rows = rng.standard_normal((size, self.real.shape[1]), np.float32)
        rows *= NOISE / np.sqrt(self.real.shape[1])
        share = rng.random((size, 1), np.float32)
        rows += share * self.real[np.arange(first, first + size) % len(self.real)]
        rows += (1 - share) * self.real[rng.integers(0, len(self.real), size)]
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows


def main() -> None:
    arguments = _arguments()
    arguments.work.mkdir(parents=True, exist_ok=True)
    real = real_vectors(arguments)
    vectors = Vectors(real, arguments.chunks)
    config = FaissRetrieverConfig(
        factory="IVF{nlist},PQ{pq}",
        nlist=arguments.nlist,
        pq=arguments.pq,
        nprobe=arguments.nprobe,
        rerank=arguments.rerank,
    )
    figures = measure(config, vectors, arguments)
    table = markdown(figures)
    print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
        arguments.json.with_suffix(".md").write_text(table)


def real_vectors(arguments: argparse.Namespace) -> np.ndarray:
    """Unit vectors of a corpus's distinct chunks, float32 [R, E], by the project's own stages."""
    overrides = [f"embedder={arguments.embedder}", f"corpus.max_bytes={arguments.max_bytes}"]
    overrides += ["corpus.split.validation=0.15", "corpus.split.test=0.2"]  # for small samples
    if arguments.corpus:
        overrides += ["corpus=jsonl", f"corpus.path={arguments.corpus.resolve()}"]
    config = load_config([*overrides, f"store.dir={arguments.work}/store"])
    found = np.asarray(DataGraph(config).own.embeddings.data.vectors, np.float32)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return (found / np.maximum(lengths, 1e-9))[lengths[:, 0] > 0]


def measure(
    config: FaissRetrieverConfig, vectors: Vectors, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Builds, searches, compares with exact search, and says how fast and how large."""
    artifact = build(config, vectors, arguments.work)
    building = artifact.manifest["seconds"]
    built_with = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    retriever = FaissRetriever.load(artifact.path, config)
    queries = vectors.made(0, stream=1)[: arguments.queries]
    asked = Queries(
        np.zeros((len(queries), 1), np.int32), queries, *[np.full(len(queries), -1)] * 2
    )
    truth, exact = _timed(lambda: ExactSearch(vectors.rows).candidates(asked, TOP).ids)
    searches = []
    for nprobe in arguments.probes:
        retriever.config = FaissRetrieverConfig(**{**asdict(config), "nprobe": nprobe})
        retriever._set_search_options()
        found, seconds = _timed(lambda: retriever.candidates(asked, TOP).ids)
        hits = (truth[:, :, None] == found[:, None, :]).any(axis=2).mean()
        searches.append(
            {
                "nprobe": nprobe,
                "recall_at_10": round(float(hits), 4),
                "queries_per_s": round(len(queries) / seconds, 1),
            }
        )
    size = artifact.file("index.faiss").stat().st_size
    return {
        "chunks": vectors.count,
        "width": vectors.real.shape[1],
        "real_vectors": len(vectors.real),
        "embedder": arguments.embedder,
        "factory": artifact.stats["factory"],
        "rerank": config.rerank,
        "block": BLOCK,
        "queries": len(queries),
        "building_s": building,
        "chunks_per_s": round(vectors.count / building, 1),
        "bytes": size,
        "bytes_per_chunk": round(size / vectors.count, 2),
        "exact_search_s": round(exact, 1),
        "search": searches,
        "building_peak_rss_bytes": built_with,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "threads": faiss.omp_get_max_threads(),
    }


def build(config: FaissRetrieverConfig, vectors: Vectors, work: Path) -> Artifact:
    """The index of all vectors, as the project's index stage builds it."""

    def builder(workspace: Workspace) -> Any:
        retriever = FaissRetriever(config)
        facts = retriever.build(np.arange(vectors.count), np.empty((0, 0)), vectors.rows, workspace)
        retriever.save(workspace.path)
        return facts

    fields = {**FaissRetriever.index_fields(config), "count": vectors.count}
    real = hashlib.sha256(vectors.real.tobytes()).hexdigest()
    stage = Stage("scale", 1, fields, {}, {"real": real})
    return ArtifactStore(work / "store").build(stage, builder)


def markdown(figures: dict[str, Any]) -> str:
    """The figures for docs/scaling.md."""
    peaks = [figures[name] / 2**30 for name in ("building_peak_rss_bytes", "peak_rss_bytes")]
    lines = [
        f"| {figures['chunks']:,} chunks of {figures['width']} numbers, `{figures['factory']}` | |",
        "|---|---:|",
        f"| real vectors that the others lie around | {figures['real_vectors']:,} |",
        f"| training, adding in blocks of {figures['block']:,}, joining | "
        f"{figures['building_s']:,} s, {figures['chunks_per_s']:,} chunks/s |",
        f"| index on disk | {figures['bytes'] / 1e9:.2f} GB, {figures['bytes_per_chunk']} bytes "
        "a chunk |",
        f"| peak memory of building, and of all | {peaks[0]:.2f} and {peaks[1]:.2f} GiB |",
    ]
    lines += [
        f"| {figures['queries']:,} queries, nprobe {row['nprobe']} | {row['queries_per_s']:,} "
        f"queries/s, recall@10 {row['recall_at_10']} |"
        for row in figures["search"]
    ]
    return "\n".join(lines) + "\n"


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.perf_counter()
    found = work()
    return found, time.perf_counter() - begun


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the store")
    parser.add_argument("--chunks", type=int, default=10_000_000)
    parser.add_argument("--corpus", type=Path, help="JSON lines; default: the standard library")
    parser.add_argument("--max-bytes", type=int, default=1_000_000, help="of it that are embedded")
    parser.add_argument("--embedder", default="minilm")
    parser.add_argument("--nlist", type=int, default=4096)
    parser.add_argument("--pq", type=int, default=48, help="bytes of a code")
    parser.add_argument("--nprobe", type=int, default=64)
    parser.add_argument("--rerank", type=int, help="candidates scored again exactly")
    parser.add_argument("--probes", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="figures; the table goes beside it as .md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
