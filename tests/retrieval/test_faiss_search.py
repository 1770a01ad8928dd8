"""Contract: lists that are given are scanned by as many threads as FAISS has, to the same end."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from retro_lab.retrieval.search.faiss_search import search


def test_given_lists_are_scanned_by_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
    index = faiss.index_factory(16, "IVF4,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    index.nprobe = 4
    scan, modes = faiss.IndexIVF.search_preassigned, []

    def watched(self: faiss.IndexIVF, *arguments: object) -> tuple[np.ndarray, np.ndarray]:
        modes.append(self.parallel_mode)
        return scan(self, *arguments)

    monkeypatch.setattr(faiss.IndexIVF, "search_preassigned", watched)
    _, found = search(index, vectors[:9], 5)
    assert modes == [3]  # over queries; in mode 0 only `index.search` has threads
    assert index.parallel_mode == 0
    assert (found == index.search(vectors[:9], 5)[1]).all()
