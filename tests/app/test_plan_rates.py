"""Rates: what a large database takes follows from what two small ones take."""

from __future__ import annotations

from typing import Any

import faiss
import pytest

from retro_lab.config.schema import (
    Bm25RetrieverConfig,
    FaissRetrieverConfig,
    RandomRetrieverConfig,
    RetrieverConfig,
)
from retro_lab.planner import plan_rates
from retro_lab.planner.plan import Database
from retro_lab.planner.plan_rates import Sample
from retro_lab.retrieval.search.faiss_index import FaissRetriever

WIDTH = 16
CALL, CENTROID, CODE = 1e-6, 1e-8, 1e-9  # seconds


def planned(chunks: int) -> Database:
    return Database(chunks, chunks, 10, 256 * chunks, 64, 4096, 0.65)


def measured(config: RetrieverConfig, chunks: int) -> tuple[list[int], float]:
    """Sizes that are measured, and what follows from them in seconds a query.

    A query takes a call, its centroids and the codes it scans.
    """
    sizes: list[int] = []

    def seconds(retriever: Any, size: int) -> float:
        sizes.append(size)
        if not isinstance(retriever, FaissRetriever):
            return CALL + CODE * size
        index = faiss.extract_index_ivf(retriever.index)
        assert index.ntotal == size
        return CENTROID * index.nlist + CODE * size * index.nprobe / index.nlist

    sample = Sample(indexed=(400, 1600), most_lists=32, seconds=seconds)
    rate = plan_rates.measure_search(config, planned(chunks), WIDTH, 4, sample=sample)
    return sizes, 1 / rate


def test_a_lexical_search_grows_with_the_database() -> None:
    config = Bm25RetrieverConfig()
    assert measured(config, 1000)[0] == [400, 1000]
    sizes, seconds = measured(config, 100_000)
    assert sizes == [400, 1600]
    assert seconds == pytest.approx(CALL + CODE * 100_000)


def test_a_random_search_does_not() -> None:
    sizes, seconds = measured(RandomRetrieverConfig(), 100_000)
    assert sizes == [400]
    assert seconds == pytest.approx(CALL + CODE * 400)


@pytest.mark.parametrize("factory", ["IVF64,Flat", "OPQ4_8,IVF64,PQ4x4"])
def test_lists_are_measured_by_their_share(factory: str) -> None:
    """64 lists are planned and 32 built, of which as large a share is visited."""
    config = FaissRetrieverConfig(factory=factory, nprobe=8)
    sizes, seconds = measured(config, 100_000)
    assert sizes == [400, 1600, 1600]
    scanned = plan_rates.UNEVEN * 100_000 * 8 / 64
    assert seconds == pytest.approx(plan_rates.DEEPER * (CENTROID * 64 + CODE * scanned))


def test_fewer_chunks_than_lists_to_train_are_measured_once() -> None:
    """A quarter of 40 chunks can't train 32 lists."""
    config = FaissRetrieverConfig(factory="IVF32,Flat")
    assert measured(config, 40)[0] == [32, 40, 40]
