"""Contract: whoever prepares the data, artifacts have the same bytes; no key knows who it was."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import orjson
import pytest
from composed import config_of
from run_stages import built, stages_of

from retro_lab.config.schema import Config
from retro_lab.run.data.graph import DataGraph
from retro_lab.store.engine import Work
from retro_lab.store.stage import JSON

TIMES = {"queries_per_second"}

LARGEST = 250  # so that stages have several blocks; the driver cuts them, workers needn't know


class Elsewhere:
    """Blocks in reverse, by copies of the work that are pickled as for another machine."""

    def __init__(self) -> None:
        self.done = 0
        self.pickled: list[bytes] = []

    def run(self, work: Work, blocks: Sequence[tuple[int, int]]) -> Iterator[JSON]:
        pickled = pickle.dumps(work)
        self.pickled.append(pickled)
        for start, stop in reversed(blocks):
            self.done += 1
            yield pickle.loads(pickled)(start, stop)


def corpora(folder: Path) -> tuple[Path, Path]:
    """Two corpora of random words that share some documents."""
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(200)])
    texts = [" ".join(rng.choice(words, 150)) for _ in range(70)]
    paths = folder / "docs.jsonl", folder / "more.jsonl"
    for path, first in zip(paths, (0, 50), strict=True):
        documents = enumerate(texts[first : first + 60], first)
        lines = [orjson.dumps({"id": str(i), "text": text}) for i, text in documents]
        path.write_bytes(b"\n".join(lines))
    return paths


def config(folder: Path, store: str, *overrides: str) -> Config:
    own, more = corpora(folder)
    common = [
        "corpus=jsonl", f"corpus.path={own}", "corpus.split.validation=0.2",
        "corpus.split.test=0.2", "chunking=m16", "tokenizer.vocab_size=400",
        "embedder=hashing", "embedder.dim=64", "neighbours.max_run=8", "neighbours.dedup=0.8",
        f"database.add=[{more}]", f"store.dir={folder / store}",
    ]  # fmt: skip
    return config_of(*common, *overrides)


def contents(config: Config, engine: Elsewhere | None = None) -> dict[str, tuple]:
    """Size and digest of every file of every stage, and what its manifest counts."""
    return {
        name: (a.manifest["files"], {k: v for k, v in a.stats.items() if k not in TIMES})
        for name, a in built(config, engine, LARGEST).items()
    }


@pytest.mark.parametrize("retriever", ["hybrid", "faiss_ivf", "dense_bm25_rerank", "oracle"])
def test_pickled_work_gives_the_same_artifacts(tmp_path: Path, retriever: str) -> None:
    here = config(tmp_path, "here", f"retriever={retriever}")
    there, engine = config(tmp_path, "there", f"retriever={retriever}"), Elsewhere()
    assert contents(there, engine) == contents(here)
    assert engine.done > 10


@pytest.mark.parametrize("retriever", ["faiss_ivf", "faiss_ivfpq", "faiss_opq_ivfpq"])
def test_lists_are_filled_elsewhere(tmp_path: Path, retriever: str) -> None:
    here, there = (
        DataGraph(config(tmp_path, store, f"retriever={retriever}", "database.add=[]"))
        for store in ("here", "there")
    )
    here.store.largest_block = there.store.largest_block = LARGEST
    there.store.engine = engine = Elsewhere()
    indexes = [each.index(each.groups.retriever).artifact for each in (here, there)]
    assert indexes[0].manifest["files"] == indexes[1].manifest["files"]
    assert any(b"faiss_blocks" in work for work in engine.pickled)


def test_the_engine_enters_no_key(tmp_path: Path) -> None:
    local = config(tmp_path, "store")
    ray = config(tmp_path, "store", "prepare.engine=ray", "prepare.workers=3")
    assert [stage.key for stage in stages_of(ray)] == [stage.key for stage in stages_of(local)]


@pytest.mark.slow
def test_ray_gives_the_same_artifacts(tmp_path: Path, ray_nodes: None) -> None:
    """One of every kind of block: text cut, chunks embedded, lists filled, neighbours found."""
    once = ["retriever=hybrid", "retriever.dense.factory='IVF8,Flat'"]
    once += ["database.add=[]", "eval=ppl"]
    here = config(tmp_path, "here", *once)
    there = config(tmp_path, "there", *once, "prepare.engine=ray", "prepare.workers=2")
    assert contents(there) == contents(here)
