"""A memory in a folder of its own, to be read without a run and without the store.

The folder holds the database's tokens, sorted contexts, topics, ids of the documents, and a gate.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from retro_lab.config.errors import UserError
from retro_lab.store import mapped

from .context_reader import ContextReader
from .database_experts import DatabaseExperts
from .memory import FittedGate, Memory
from .sorted_contexts import Segment, StoredTokens
from .topics import Topics

_META, _DOCUMENTS = "memory.json", "documents.json"
_ARRAYS = ("tokens", "document", "index", "first_chunk")
_NUMBERS = ("chunk_size", "vocab_size", "boundary_id", "pad_id", "num_documents")


@dataclass(frozen=True)
class FolderTokens:
    """The tokens of a database as a `StoredTokens`; see `ChunkStore` for the arrays."""

    tokens: NDArray[np.integer]
    document: NDArray[np.int32]
    index: NDArray[np.int32]
    first_chunk: NDArray[np.int64]
    chunk_size: int
    vocab_size: int
    boundary_id: int
    pad_id: int
    num_documents: int


@dataclass(frozen=True)
class MemoryFolder:
    """A memory that was opened from a folder.

    Attributes:
        memory: its experts.
        gate: their gate.
        chunks: the database's tokens.
        documents: id of each document.
    """

    memory: Memory
    gate: FittedGate
    chunks: StoredTokens
    documents: list[str]

    @classmethod
    def open(cls, folder: Path, threads: int = 1) -> MemoryFolder:
        """Opens what `write_memory` wrote; arrays are memory-mapped.

        Raises:
            UserError: the folder holds no memory.
        """
        if not (folder / _META).is_file():
            raise UserError(
                f"{folder} holds no memory",
                fix="python -m retro_lab export ... memory=suffix_topic",
            )
        meta: dict[str, Any] = orjson.loads((folder / _META).read_bytes())
        arrays = {name: mapped(folder / f"{name}.npy") for name in _ARRAYS}
        chunks = FolderTokens(**arrays, **{name: meta[name] for name in _NUMBERS})
        segments = [
            Segment(
                base, mapped(folder / f"order_{at}.npy"), mapped(folder / f"following_{at}.npy")
            )
            for at, base in enumerate(meta["bases"])
        ]
        reader = ContextReader(chunks, segments, max_run=meta["max_run"])
        topics = Topics(folder / "topics") if (folder / "topics").is_dir() else None
        return cls(
            Memory([DatabaseExperts(reader, topics, threads)]),
            FittedGate.load(folder),
            chunks,
            orjson.loads((folder / _DOCUMENTS).read_bytes()),
        )


def write_memory(
    folder: Path,
    reader: ContextReader,
    topics: Path | None,
    gate: FittedGate,
    documents: Sequence[str],
) -> None:
    """Writes a memory into a new folder.

    Args:
        topics: folder of the `topics` artifact; None without them.
        documents: id of each document of the reader's store.
    """
    folder.mkdir()
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", getattr(reader.chunks, name))
    for at, segment in enumerate(reader.segments):
        np.save(folder / f"order_{at}.npy", segment.order)
        np.save(folder / f"following_{at}.npy", segment.following)
    if topics is not None:
        (folder / "topics").mkdir()
        for path in sorted(topics.glob("*.npy")):
            shutil.copyfile(path, folder / "topics" / path.name)
    gate.save(folder)
    meta = {name: getattr(reader.chunks, name) for name in _NUMBERS}
    meta |= {"max_run": reader.max_run, "bases": [segment.base for segment in reader.segments]}
    (folder / _META).write_bytes(orjson.dumps(meta, option=orjson.OPT_INDENT_2))
    (folder / _DOCUMENTS).write_bytes(orjson.dumps(list(documents)))
