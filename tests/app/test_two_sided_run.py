"""Contract: with a two-sided embedder, neighbours in another corpus and those of generated text are
the keys nearest to query vectors; the planner counts both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest
from golden import Golden

from retro_lab.commands.plan import main
from retro_lab.config.schema import DualEncoderConfig, HashingEmbedderConfig
from retro_lab.retrieval.embed import embedders
from retro_lab.retrieval.embed.hashing import HashingEmbedder
from retro_lab.run.data.graph import DataGraph


@dataclass
class Halves:
    """Keys of the words of a text, queries of its first half only."""

    config: Any
    asks: bool = False
    dim: int = 64

    @property
    def query(self) -> Halves | None:
        return None if self.asks else Halves(self.config, asks=True)

    @classmethod
    def content_fields(cls, config: Any) -> dict[str, str]:
        return {}

    def embed(self, texts: list[str]) -> np.ndarray:
        texts = [text[: len(text) // 2] for text in texts] if self.asks else texts
        return HashingEmbedder(HashingEmbedderConfig(dim=64)).embed(texts).astype(np.float16)


@pytest.fixture
def prepared(golden: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataGraph:
    """The golden corpus and, as what is searched, its documents without their first words."""
    monkeypatch.setitem(embedders.EMBEDDERS, DualEncoderConfig, f"{__name__}:Halves")
    records = [orjson.loads(line) for line in (golden.corpus / "corpus.jsonl").open("rb")]
    for record in records:
        record["text"], record["id"] = record["text"][60:], f"other {record['id']}"
    path = tmp_path / "other.jsonl"
    path.write_bytes(b"\n".join(map(orjson.dumps, records)) + b"\n")
    settings = ["retriever=faiss_flat", "embedder=dpr", f"store.dir={tmp_path}/store"]
    return DataGraph(golden.config(*settings, "database=corpus", f"database.corpus.path={path}"))


def best(asked: list[str], prepared: DataGraph) -> np.ndarray:
    """The highest inner product of each query with a key."""
    chunks = prepared.chunks
    keys = Halves(None).embed(chunks.texts(chunks.searched, prepared.corpus)).astype(np.float32)
    return (Halves(None, asks=True).embed(asked).astype(np.float32) @ keys.T).max(axis=1)


def test_own_chunks_ask_and_another_corpus_answers(prepared: DataGraph) -> None:
    chunks, table = prepared.chunks, prepared.table
    assert table is not None
    assert chunks.searched.min() >= chunks.own_chunks
    texts = chunks.texts(np.arange(chunks.own_chunks), prepared.corpus)
    np.testing.assert_allclose(table.scores[:, 0], best(texts, prepared), atol=1e-6)


def test_generated_text_asks_with_the_query_model(prepared: DataGraph) -> None:
    chunks, tokenizer = prepared.chunks, prepared.tokenizer.data
    model: Any = SimpleNamespace(value="both", chunk_size=8, neighbour_length=16)
    source = prepared.search(prepared.groups.retriever, model, prepared.groups.neighbours.k)
    rows = [row[1:].tolist() for row in chunks.tokens[:20:5]]
    _, found = source.search(rows)
    scores = [hits[0].score for hits in found]
    texts = [tokenizer.decode(row) for row in rows]
    np.testing.assert_allclose(scores, best(texts, prepared), atol=1e-6)


def test_the_planner_counts_both(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["database.tokens=64e6", "retriever=faiss_flat", "embedder.dim=500"]
    shown = []
    for option in ("bert", "dpr"):
        assert main([*command, f"embedder={option}"]) == 0
        shown.append(capsys.readouterr().out)
    assert "queries.npy" not in shown[0]
    assert "queries.npy" in shown[1]
