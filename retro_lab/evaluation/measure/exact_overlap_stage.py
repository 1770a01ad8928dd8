"""The stage `exact_overlap`: the longest run that each chunk shares with text that could leak.

Text that could leak is the training split and the searched database. The stage depends on the text
alone, so all retrievers and models share it. The database is searched in blocks: memory is
bounded, time is linear in its length, and an interrupted search resumes at its block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro_lab.store import Artifact, Stage, Workspace
from retro_lab.text.chunks import ChunkStore

from .exact_overlap import chunk_runs, matching_runs

VERSION = 1
DATABASE = "train"
BLOCK_TOKENS = 2**22  # of the database; blocks are at least as long as the evaluated text
_BY_BLOCK = "by_block"


def exact_overlap_stage(chunks: Artifact | Stage, *, split: str) -> Stage:
    """The stage of one split's longest runs shared with training split and database."""
    fields = {"split": split, "database": DATABASE}
    return Stage("exact_overlap", VERSION, fields, {"chunks": chunks})


def build_exact_overlap(
    chunks: ChunkStore, workspace: Workspace, *, split: str, block_tokens: int = BLOCK_TOKENS
) -> Mapping[str, Any]:
    """Writes two arrays with a row for each chunk of the split, in chunk order.

    matching.npy: uint16 [S, M], the longest run from each token, also beyond its chunk, up to M.
    longest_run.npy: int32 [S], the longest run within the chunk.
    """
    size = chunks.chunk_size
    text = chunks.tokens[chunks.chunks_of(split)].reshape(-1)
    database = np.union1d(chunks.chunks_of(DATABASE), chunks.searched)
    rows = -(-max(block_tokens, len(text)) // size)  # database chunks a block
    num_blocks = max(1, -(-len(database) // rows))

    def search(block: int, _: int) -> dict[str, np.ndarray]:
        # One chunk more, for runs that begin in this block and end in the next.
        part = database[block * rows : (block + 1) * rows + 1]
        return {_BY_BLOCK: _against(chunks, text, part)[None]}

    workspace.blocks(num_blocks, 1, search, what="exact overlap", unit="blocks of the database")
    by_block = workspace.path / f"{_BY_BLOCK}.npy"
    matching = np.load(by_block, mmap_mode="r", allow_pickle=False).max(axis=0).reshape(-1, size)
    by_block.unlink()
    runs = chunk_runs(matching)
    np.save(workspace.path / "matching.npy", matching)
    np.save(workspace.path / "longest_run.npy", runs)
    mean = float(runs.mean()) if len(runs) else 0.0
    return {"chunks": len(runs), "database_chunks": len(database), "mean_run": mean}


def _against(chunks: ChunkStore, text: NDArray, database: NDArray[np.int64]) -> NDArray[np.uint16]:
    """[E] matching runs of the text in one block of the database."""
    special = (chunks.pad_id, chunks.boundary_id)
    tokens = chunks.tokens[database].reshape(-1)
    return matching_runs(text, tokens, special, chunks.chunk_size).astype(np.uint16)
