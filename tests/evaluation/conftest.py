"""Shared by the evaluation tests: a small table of scored chunks with leakage planted in it, and
results made of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from pictures import draw_nothing
from reported_runs import Runs

from retro_lab.evaluation.records.chunk_table import ChunkTable, Overlap, Reading

CHUNK_SIZE = 64


@pytest.fixture
def make_table() -> Callable[..., ChunkTable]:
    """`make_table(documents, seed)`: ON gains 0.1 nats a token, and more where text leaks."""

    def make(documents: int = 30, seed: int = 0, with_overlap: bool = True) -> ChunkTable:
        rng = np.random.default_rng(seed)
        chunks_of = rng.integers(2, 8, documents)
        document = np.repeat(np.arange(documents), chunks_of)
        index = np.concatenate([np.arange(count) for count in chunks_of])
        last = np.concatenate([document[1:] != document[:-1], [True]])
        tokens = np.where(index == 0, CHUNK_SIZE - 1, CHUNK_SIZE)
        tokens = np.where(last, rng.integers(1, CHUNK_SIZE, len(index)), tokens)
        run = rng.integers(0, tokens + 1)
        noise = rng.normal(0, 0.2, (3, len(index)))
        baseline = tokens * (2.0 + noise[0])
        return ChunkTable(
            document_id=np.array([f"document {d}" for d in document], object),
            chunk_index=index.astype(np.int32),
            tokens=tokens,
            bytes=tokens * 3 + rng.integers(0, 9, len(index)),
            with_retrieval=np.maximum(tokens - 5, 0),
            nats={
                "baseline": baseline,
                "plain": baseline + 0,
                "off": baseline + tokens * 0.1 * noise[1],
                "random": baseline + tokens * 0.1 * noise[2],
                "on": baseline - tokens * (0.1 + 0.5 * run / tokens),
            },
            neighbours=np.where(index[:, None] > 0, rng.integers(0, 99, (len(index), 2)), -1),
            reading=Reading(
                np.where(index[:, None] > 0, rng.random((len(index), 2)), -np.inf).astype(
                    np.float32
                ),
                np.where(index[:, None] > 0, rng.integers(0, 9, (len(index), 2)), 0).astype(
                    np.int32
                ),
            ),
            overlap=Overlap(run.astype(np.int32), last) if with_overlap else None,
        )

    return make


@pytest.fixture
def runs(
    make_table: Callable[..., ChunkTable],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Runs:
    """A folder of finished runs, on a wide terminal; plots are one pixel."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(Figure, "savefig", draw_nothing)
    return Runs(tmp_path / "runs", make_table, capsys)
