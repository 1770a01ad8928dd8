"""The stage `overlap`: the longest run that each evaluated chunk shares with its own neighbours.

It depends on text and retriever alone, so all models evaluated on the same data share one filter
(RETRO, B.1, point 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro_lab.retrieval.table import NeighbourTable
from retro_lab.store import Artifact, Stage, Workspace
from retro_lab.text.chunks import ChunkStore

from .overlap import longest_common_run

VERSION = 1
_BLOCK = 4096


def overlap_stage(
    neighbours: Artifact | Stage,
    chunks: Artifact | Stage,
    *,
    split: str,
    count: int,
    continuation_chunks: int,
) -> Stage:
    """The stage of one split's longest shared runs.

    Args:
        count: neighbours compared with each chunk (the paper takes 10).
        continuation_chunks: following chunks compared with each neighbour.
    """
    fields = {"split": split, "count": count, "continuation_chunks": continuation_chunks}
    return Stage("overlap", VERSION, fields, {"neighbours": neighbours, "chunks": chunks})


def build_overlap(
    chunks: ChunkStore,
    table: NeighbourTable,
    workspace: Workspace,
    *,
    split: str,
    count: int,
    continuation_chunks: int,
) -> Mapping[str, Any]:
    """Writes longest_run.npy, int32 [S]: one value for each chunk of the split, in chunk order."""
    ids = chunks.chunks_of(split)

    def measure(start: int, stop: int) -> dict[str, np.ndarray]:
        rows = ids[start:stop]
        references = table.ids[rows, :count].astype(np.int64)
        return {"longest_run": shared_runs(chunks, rows, references, continuation_chunks)}

    workspace.blocks(len(ids), _BLOCK, measure, what="overlap", unit="chunks")
    runs = np.load(workspace.path / "longest_run.npy", mmap_mode="r", allow_pickle=False)
    return {"chunks": len(ids), "mean_run": float(runs.mean()) if len(ids) else 0.0}


def shared_runs(
    chunks: ChunkStore, ids: NDArray[np.int64], references: NDArray[np.int64], continuation: int
) -> NDArray[np.int32]:
    """[Q] longest run that chunks `ids` [Q] share with any of the chunks `references` [Q, K]."""
    values = chunks.values(references, continuation)
    return longest_common_run(chunks.tokens[ids], values, chunks.pad_id, chunks.boundary_id)
