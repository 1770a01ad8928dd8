"""How fast a memory is built and read, and what it takes on disk, on one core.

    python benchmarks/contexts.py corpus=jsonl corpus.path=docs.jsonl.zst corpus.id_field=null

Takes settings of train.py. Sorts the contexts of the training split and counts its topics, then
reads every token of a sample of test documents: counts alone (suffix), and with two weightings by
topic (suffix_topic).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402

from retro_lab.config.compose import load_config  # noqa: E402
from retro_lab.evaluation.measure.memory_scoring import DocumentTexts  # noqa: E402
from retro_lab.memory.context_reader import ContextReader  # noqa: E402
from retro_lab.memory.database_experts import DatabaseExperts  # noqa: E402
from retro_lab.memory.sorted_contexts import build_contexts, open_segments  # noqa: E402
from retro_lab.memory.topics import Topics, build_topics  # noqa: E402
from retro_lab.run.data.graph import DataGraph  # noqa: E402
from retro_lab.store import Workspace  # noqa: E402
from retro_lab.text.chunks import ChunkStore  # noqa: E402

TOKENS = 100_000  # read in each way
REPEATS = 3  # the fastest counts


def main(overrides: list[str]) -> None:
    graph = DataGraph(load_config(["retriever=none", *overrides]))
    chunks, corpus = graph.own.chunks.data, graph.own.corpus.data
    megabytes = corpus.num_bytes("train") / 1e6
    with tempfile.TemporaryDirectory() as folder:
        contexts, topics = (Workspace(Path(folder) / name) for name in ("contexts", "topics"))
        seconds = [_seconds(lambda: build_contexts(chunks, contexts))]
        seconds.append(_seconds(lambda: build_topics(chunks, topics)))
        sizes = [
            sum(f.stat().st_size for f in each.path.glob("*.npy")) for each in (contexts, topics)
        ]
        reader = ContextReader(chunks, open_segments(contexts.path))
        tokens = reader.entries
        print(f"{megabytes:.1f} MB of text, {tokens:,} tokens in the database")
        for name, spent, size in zip(("contexts", "topics"), seconds, sizes, strict=True):
            print(
                f"{name:<12} built in {spent:5.1f} s ({megabytes / spent:5.1f} MB/s), "
                f"{size / tokens:.1f} bytes a token"
            )
        for name, read in (("suffix", None), ("suffix_topic", Topics(topics.path))):
            experts = DatabaseExperts(reader, read)
            count = _read(experts, chunks)
            spent = min(_seconds(lambda: _read(experts, chunks)) for _ in range(REPEATS))  # noqa: B023
            print(f"{name:<12} read at {1000 * spent / count:.3f} ms a token ({count:,} tokens)")


def _read(experts: DatabaseExperts, chunks: ChunkStore) -> int:
    """Reads test documents up to `TOKENS`; returns how many tokens they had."""
    texts, count = DocumentTexts(chunks, chunks), 0
    for document in np.unique(chunks.document[chunks.chunks_of("test")]).tolist():
        text = texts.of(document)
        experts.read(text, 1, len(text.tokens))
        count += len(text.tokens) - 1
        if count >= TOKENS:
            break
    return count


def _seconds(work: object) -> float:
    begun = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - begun


if __name__ == "__main__":
    main(sys.argv[1:])
