"""Our search and embedding beside the libraries that they stand on, in turns, in one process.

Both sides get the same vectors, tokens and queries and give equally many results. Each pair of
calls is repeated, ours and theirs in turns, and medians are compared, so that a load on the machine
that comes and goes falls on both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from retro_lab.config.schema import Bm25RetrieverConfig, FaissRetrieverConfig
from retro_lab.retrieval.base import Queries
from retro_lab.retrieval.search.bm25 import Bm25Retriever
from retro_lab.retrieval.search.faiss_index import FaissRetriever


@dataclass(frozen=True)
class Compared:
    """Seconds of the same work done by us and by a library.

    Attributes:
        ours: median.
        raw: median.
        work: items done in that time.
        recall: share of the exact first k that each found; None where nothing is approximated.
    """

    ours: float
    raw: float
    work: int
    recall: float | None = None
    raw_recall: float | None = None

    @property
    def overhead(self) -> float:
        """Ours over theirs."""
        return self.ours / self.raw

    def as_json(self) -> dict[str, Any]:
        """Both rates, what they come from, and the overhead."""
        found = {
            "ours_s": round(self.ours, 4),
            "raw_s": round(self.raw, 4),
            "items": self.work,
            "ours_per_s": round(self.work / self.ours, 1),
            "raw_per_s": round(self.work / self.raw, 1),
            "overhead": round(self.overhead, 4),
        }
        if self.recall is not None:
            found |= {"recall": round(self.recall, 4), "raw_recall": round(self.raw_recall or 0, 4)}
        return found


def in_turns(
    ours: Callable[[], object], raw: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Median seconds of both, each called once before it counts; who begins alternates."""
    seconds: dict[int, list[float]] = {0: [], 1: []}
    for turn in range(repeats + 1):
        for side in (0, 1) if turn % 2 else (1, 0):
            begun = time.perf_counter()
            (ours, raw)[side]()
            if turn:
                seconds[side].append(time.perf_counter() - begun)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def faiss_build(factory: str, vectors: np.ndarray, repeats: int) -> Compared:
    """Training and filling an index."""
    import faiss

    ids, tokens = np.arange(len(vectors)), np.zeros((len(vectors), 1), np.int32)
    filled = _ours(factory, ids, tokens, vectors)[1]

    def raw() -> None:
        index = faiss.index_factory(vectors.shape[1], filled, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors)
        index.add(vectors)

    ours, theirs = in_turns(lambda: _ours(factory, ids, tokens, vectors), raw, repeats)
    return Compared(ours, theirs, len(vectors))


def faiss_search(
    factory: str, vectors: np.ndarray, queries: np.ndarray, k: int, repeats: int
) -> Compared:
    """The k best of each query, by our index and by FAISS alone on that same index.

    Ours are exact scores where the index is exact, and equal scores in the order of chunk ids.
    """
    ids, tokens = np.arange(len(vectors)), np.zeros((len(vectors), 1), np.int32)
    retriever, _ = _ours(factory, ids, tokens, vectors)
    nowhere = np.full(len(queries), -1)
    asked = Queries(np.zeros((len(queries), 1), np.int32), queries, nowhere, nowhere)
    ours, raw = in_turns(
        lambda: retriever.candidates(asked, k),
        lambda: retriever.index.search(queries, k),
        repeats,
    )
    if factory == "Flat":
        return Compared(ours, raw, len(queries))
    exact, _ = _ours("Flat", ids, tokens, vectors)
    truth = exact.candidates(asked, 10).ids
    found = retriever.candidates(asked, k).ids[:, :10]
    theirs = retriever.index.search(queries, k)[1][:, :10]
    return Compared(ours, raw, len(queries), recall(truth, found), recall(truth, theirs))


def recall(truth: np.ndarray, found: np.ndarray) -> float:
    """Share of `truth` [Q, K] that stands in the same row of `found` [Q, K']."""
    return float((truth[:, :, None] == found[:, None, :]).any(axis=2).mean())


def bm25(
    tokens: np.ndarray, queries: np.ndarray, k: int, repeats: int
) -> tuple[Compared, Compared]:
    """Indexing and searching token ids, ours and by bm25s's own `index` and `retrieve`."""
    import bm25s

    config = Bm25RetrieverConfig()
    ids, vocabulary = np.arange(len(tokens)), int(tokens.max()) + 1
    lists, asked = ([row[row >= 0].tolist() for row in rows] for rows in (tokens, queries))
    names = {str(token): token for token in range(vocabulary)}
    retriever = Bm25Retriever(config)
    raw = bm25s.BM25(k1=config.k1, b=config.b, method="lucene")
    build = in_turns(
        lambda: retriever.build(ids, tokens, None),
        lambda: raw.index((lists, names), show_progress=False),
        repeats,
    )
    nowhere = np.full(len(queries), -1)
    ours_asked = Queries(queries, None, nowhere, nowhere)
    search = in_turns(
        lambda: retriever.candidates(ours_asked, k),
        lambda: raw.retrieve(asked, k=k, show_progress=False),
        repeats,
    )
    return Compared(*build, len(tokens)), Compared(*search, len(queries))


def embedding(
    embed: Callable[[], object], texts: list[str], batch_size: int, repeats: int
) -> Compared:
    """Our stage's work on some texts, and the model's forward passes on the same, tokenised before
    and sorted by length.

    Args:
        embed: reads and embeds the texts as the stage does.
        texts: the same.
        batch_size: texts a forward pass.
    """
    from retro_lab.config.schema import SentenceTransformerConfig
    from retro_lab.retrieval.embed.sentence_transformer import SentenceTransformerEmbedder

    model = SentenceTransformerEmbedder(SentenceTransformerConfig())._model
    batches = _tokenised(model, texts, batch_size)
    ours, raw = in_turns(embed, lambda: _forward(model, batches), repeats)
    return Compared(ours, raw, len(texts))


def _tokenised(model: Any, texts: list[str], batch_size: int) -> list[Any]:
    lengths = [len(row) for row in model.tokenizer(texts, truncation=True)["input_ids"]]
    order = np.argsort(lengths, kind="stable")[::-1]
    starts = range(0, len(texts), batch_size)
    parts = [[texts[i] for i in order[start : start + batch_size]] for start in starts]
    prepare = getattr(model, "preprocess", None) or model.tokenize  # its name before version 6
    return [prepare(part) for part in parts]


def _forward(model: Any, batches: list[Any]) -> np.ndarray:
    import torch
    from sentence_transformers.util import batch_to_device

    with torch.inference_mode():
        vectors = [
            model(batch_to_device(dict(batch), model.device))["sentence_embedding"]
            for batch in batches
        ]
        return torch.nn.functional.normalize(torch.cat(vectors)).cpu().numpy()


def _ours(
    factory: str, ids: np.ndarray, tokens: np.ndarray, vectors: np.ndarray
) -> tuple[FaissRetriever, str]:
    retriever = FaissRetriever(FaissRetrieverConfig(factory=factory))
    return retriever, retriever.build(ids, tokens, vectors)["factory"]
