"""Ten million chunks on one machine: an IVF-PQ index built in blocks that resume, and searched.

    python benchmarks/scale.py --corpus my.jsonl --work scale --json scale.json

Real chunks are embedded once. Chunk i of the ten million lies between real vector i modulo their
number and another one drawn at random, with seeded noise. They are made block by block whenever
they are needed, and never more than a block is in memory. Killed, it goes on by the same command
and has lost at most one block.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from retro_lab.app.stages import Pipeline
from retro_lab.config.compose import load_config
from retro_lab.config.schema import FaissRetrieverConfig
from retro_lab.retrieval.base import Queries
from retro_lab.retrieval.faiss_factory import create_index, fill_factory, train_index
from retro_lab.retrieval.faiss_index import FaissRetriever
from retro_lab.retrieval.faiss_search import add

NOISE = 0.3  # length of the noise, where a real vector has length 1
TOP = 10
_SHARD = "shard-{:06d}.faiss"


@dataclass(frozen=True)
class Vectors:
    """The synthetic embeddings: float32 rows that follow from their number alone.

    Attributes:
        real: float32 [R, E], unit vectors.
        count: how many there are.
        block: rows made at once; part of what they are, since a block has one seed.
    """

    real: np.ndarray
    count: int
    block: int

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """First row and rows of each block."""
        for number in range(-(-self.count // self.block)):
            yield number * self.block, self.rows(number)

    def rows(self, number: int, *, stream: int = 0) -> np.ndarray:
        """Unit vectors of block `number`; another stream has other draws."""
        first = number * self.block
        size = min(self.block, self.count - first)
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
    vectors = Vectors(real, arguments.chunks, arguments.block)
    config = FaissRetrieverConfig(
        factory="IVF{nlist},PQ{pq}", nlist=arguments.nlist, pq=arguments.pq, nprobe=arguments.nprobe
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
    found = np.asarray(Pipeline(config).open_embeddings().vectors, np.float32)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return (found / np.maximum(lengths, 1e-9))[lengths[:, 0] > 0]


def measure(
    config: FaissRetrieverConfig, vectors: Vectors, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Builds, searches, compares with exact search, and says how fast and how large."""
    folder = arguments.work / _identity(config, vectors)
    folder.mkdir(exist_ok=True)
    training = build(config, vectors, folder)
    rates = _read(folder / "blocks.json", {})
    retriever, merging = merge(config, vectors, folder)
    queries = vectors.rows(0, stream=1)[: arguments.queries]
    truth, exact = _timed(lambda: exact_search(vectors, queries, TOP))
    asked = Queries(
        np.zeros((len(queries), 1), np.int32), queries, *[np.full(len(queries), -1)] * 2
    )
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
    size = (folder / "index.faiss").stat().st_size
    added = sum(rates.values())
    return {
        "chunks": vectors.count,
        "width": vectors.real.shape[1],
        "real_vectors": len(vectors.real),
        "embedder": arguments.embedder,
        "factory": fill_factory(
            config.factory, vectors.count, vectors.real.shape[1], config.nlist, config.pq
        ),
        "block": vectors.block,
        "queries": len(queries),
        "training_s": training,
        "adding_s": round(added, 1),
        "merging_s": merging,
        "chunks_per_s": round(vectors.count / added, 1),
        "bytes": size,
        "bytes_per_chunk": round(size / vectors.count, 2),
        "exact_search_s": round(exact, 1),
        "search": searches,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "threads": faiss.omp_get_max_threads(),
    }


def build(config: FaissRetrieverConfig, vectors: Vectors, folder: Path) -> float:
    """Trains once, then writes one index a block; what is there already is left.

    Returns the seconds of training. A block's seconds are kept beside it, so that the rate of a
    resumed run is known.
    """
    trained = folder / "trained.faiss"
    seconds: dict[str, float] = _read(folder / "training.json", {})
    width = vectors.real.shape[1]
    factory = fill_factory(config.factory, vectors.count, width, config.nlist, config.pq)
    if not trained.exists():
        begun = time.perf_counter()
        empty = create_index(factory, width)
        train_index(empty, training_sample(vectors, 64 * max(config.nlist or 0, 256)))
        _publish(trained, lambda path: faiss.write_index(empty, str(path)))
        seconds = {"seconds": round(time.perf_counter() - begun, 1)}
        (folder / "training.json").write_text(json.dumps(seconds))
    rates: dict[str, float] = _read(folder / "blocks.json", {})
    for number in range(-(-vectors.count // vectors.block)):
        target = folder / _SHARD.format(number)
        if target.exists():
            continue
        rows = vectors.rows(number)
        begun = time.perf_counter()
        shard = faiss.read_index(str(trained))
        add(shard, rows)
        _publish(target, lambda path, shard=shard: faiss.write_index(shard, str(path)))
        rates[str(number)] = time.perf_counter() - begun
        _publish(folder / "blocks.json", lambda path: path.write_text(json.dumps(rates)))
        done = min(vectors.count, (number + 1) * vectors.block)
        print(f"added {done:,} of {vectors.count:,} chunks", flush=True)
    return seconds.get("seconds", 0.0)


def training_sample(vectors: Vectors, count: int) -> np.ndarray:
    """About `count` rows from blocks spread over all, made as those are."""
    numbers = np.linspace(0, -(-vectors.count // vectors.block) - 1, 8).astype(int)
    each = -(-count // 8)
    parts = [vectors.rows(number)[:each] for number in dict.fromkeys(numbers.tolist())]
    return np.concatenate(parts)


def merge(
    config: FaissRetrieverConfig, vectors: Vectors, folder: Path
) -> tuple[FaissRetriever, float]:
    """The blocks as one index on disk, opened by the project's own retriever; seconds it took."""
    begun = time.perf_counter()
    if not (folder / "index.faiss").exists():
        whole = faiss.read_index(str(folder / "trained.faiss"))
        for number in range(-(-vectors.count // vectors.block)):
            shard = faiss.read_index(str(folder / _SHARD.format(number)))
            whole.merge_from(shard, number * vectors.block)
        np.save(folder / "chunk_ids.npy", np.arange(vectors.count))
        _publish(folder / "index.faiss", lambda path: faiss.write_index(whole, str(path)))
    return FaissRetriever.load(folder, config), round(time.perf_counter() - begun, 1)


def exact_search(vectors: Vectors, queries: np.ndarray, k: int) -> np.ndarray:
    """The k best of all vectors for each query, int64 [Q, k], one block in memory at a time."""
    best_scores = np.full((len(queries), k), -np.inf, np.float32)
    best_ids = np.full((len(queries), k), -1, np.int64)
    for first, rows in vectors.blocks():
        flat = faiss.IndexFlatIP(rows.shape[1])
        flat.add(rows)
        scores, ids = flat.search(queries, min(k, len(rows)))
        scores = np.concatenate([best_scores, scores], axis=1)
        ids = np.concatenate([best_ids, ids + first], axis=1)
        order = np.lexsort((ids, -scores), axis=-1)[:, :k]
        best_scores = np.take_along_axis(scores, order, axis=1)
        best_ids = np.take_along_axis(ids, order, axis=1)
    return best_ids


def markdown(figures: dict[str, Any]) -> str:
    """The figures for docs/scaling.md."""
    gibibytes = figures["peak_rss_bytes"] / 2**30
    lines = [
        f"| {figures['chunks']:,} chunks of {figures['width']} numbers, `{figures['factory']}` | |",
        "|---|---:|",
        f"| real vectors that the others lie around | {figures['real_vectors']:,} |",
        f"| training | {figures['training_s']:,} s |",
        f"| adding, in blocks of {figures['block']:,} | {figures['adding_s']:,} s, "
        f"{figures['chunks_per_s']:,} chunks/s |",
        f"| joining the blocks | {figures['merging_s']:,} s |",
        f"| index on disk | {figures['bytes'] / 1e9:.2f} GB, {figures['bytes_per_chunk']} bytes "
        "a chunk |",
        f"| peak memory | {gibibytes:.2f} GiB |",
    ]
    lines += [
        f"| {figures['queries']:,} queries, nprobe {row['nprobe']} | {row['queries_per_s']:,} "
        f"queries/s, recall@10 {row['recall_at_10']} |"
        for row in figures["search"]
    ]
    return "\n".join(lines) + "\n"


def _publish(target: Path, write: Callable[[Path], object]) -> None:
    """Written beside it first: what has the name is whole."""
    temporary = target.with_name(target.name + ".tmp")
    write(temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(target)


def _identity(config: FaissRetrieverConfig, vectors: Vectors) -> str:
    width = vectors.real.shape[1]
    digest = hashlib.sha256(vectors.real.tobytes()).hexdigest()[:8]
    sizes = f"{vectors.count}x{width}-by-{vectors.block}-{digest}"
    return f"{sizes}-ivf{config.nlist}-pq{config.pq}"


def _read(path: Path, default: Any) -> Any:
    return json.loads(path.read_text()) if path.exists() else default


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.perf_counter()
    found = work()
    return found, time.perf_counter() - begun


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for blocks and index")
    parser.add_argument("--chunks", type=int, default=10_000_000)
    parser.add_argument("--corpus", type=Path, help="JSON lines; default: the standard library")
    parser.add_argument("--max-bytes", type=int, default=1_000_000, help="of it that are embedded")
    parser.add_argument("--embedder", default="minilm")
    parser.add_argument("--block", type=int, default=250_000, help="chunks in memory at once")
    parser.add_argument("--nlist", type=int, default=4096)
    parser.add_argument("--pq", type=int, default=48, help="bytes of a code")
    parser.add_argument("--nprobe", type=int, default=64)
    parser.add_argument("--probes", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="figures; the table goes beside it as .md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
