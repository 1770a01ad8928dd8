"""The stage `contexts`: every token of a database, sorted by the tokens before it.

A context is the tokens before a token, last one first, back to the document's boundary token.
Sorted contexts are a suffix array of the reversed text: all tokens that follow the same n tokens
form one interval, and each longer match is an interval within it (Manber and Myers 1993). The text
is sorted in segments of whole documents, which bounds memory and lets a database grow by segments.

Legend: C chunks of M tokens, E entries (tokens of the documents with a searched chunk, except
boundaries), flat place = chunk * M + position in the chunk.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from retro_lab.store import Artifact, Stage, Workspace, mapped
from retro_lab.text.chunks import ChunkStore

VERSION = 1
LONGEST = 32
"""Most tokens of a context; longer matches count as this long."""
SEGMENT_TOKENS = 2**24  # sorted at once, in about 70 bytes a token
_SEGMENTS = "segments.json"


class StoredTokens(Protocol):
    """What is read of a `ChunkStore`."""

    @property
    def tokens(self) -> NDArray[np.integer]: ...
    @property
    def document(self) -> NDArray[np.int32]: ...
    @property
    def index(self) -> NDArray[np.int32]: ...
    @property
    def first_chunk(self) -> NDArray[np.int64]: ...
    @property
    def chunk_size(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def boundary_id(self) -> int: ...
    @property
    def pad_id(self) -> int: ...
    @property
    def num_documents(self) -> int: ...


@dataclass(frozen=True)
class Segment:
    """Sorted contexts of some consecutive documents.

    Attributes:
        base: flat place that `order` counts from.
        order: uint32 [E], places of the tokens in the order of their contexts.
        following: [E], the tokens at these places, which follow the contexts.
    """

    base: int
    order: NDArray[np.uint32]
    following: NDArray[np.integer]


def contexts_stage(chunks: Artifact | Stage, base: Artifact | Stage | None = None) -> Stage:
    """The stage of the sorted contexts of a database.

    Args:
        chunks: the database.
        base: the sorted contexts of a database whose chunks come first in this one.
    """
    parents = {"chunks": chunks} | ({} if base is None else {"base": base})
    return Stage("contexts", VERSION, {"longest": LONGEST}, parents)


def build_contexts(
    chunks: ChunkStore,
    workspace: Workspace,
    base: Path | None = None,
    *,
    at_once: int = SEGMENT_TOKENS,
) -> Mapping[str, Any]:
    """Sorts the searched documents that the base lacks, segment by segment.

    Args:
        base: folder of the sorted contexts to extend.
        at_once: most tokens of a segment of several documents.
    """
    done = 0 if base is None else _read_segments(base)["stop"]
    document = np.asarray(chunks.document)
    searched = np.flatnonzero(np.isin(document, document[chunks.searched]))  # whole documents
    ranges = _segments(chunks, searched[searched >= done], at_once)

    def produce(start: int, stop: int) -> dict[str, np.ndarray]:
        found = [sort_contexts(chunks, ranges[number]) for number in range(start, stop)]
        tokens = np.asarray(chunks.tokens).dtype
        return {
            "order": np.concatenate([np.empty(0, np.uint32), *(each.order for each in found)]),
            "following": np.concatenate([np.empty(0, tokens), *(e.following for e in found)]),
            "entries": np.array([len(each.order) for each in found], np.int64),
        }

    workspace.blocks(len(ranges), 1, produce, what="sorting contexts", unit="segments")
    entries = np.load(workspace.path / "entries.npy").tolist()
    segments = [
        {"base": int(ids[0]) * chunks.chunk_size, "entries": count}
        for ids, count in zip(ranges, entries, strict=True)
    ]
    record = {"segments": segments, "stop": int(searched.max(initial=-1)) + 1}
    (workspace.path / _SEGMENTS).write_bytes(orjson.dumps(record))
    return {"tokens": sum(entries), "segments": len(segments)}


def open_segments(path: Path) -> list[Segment]:
    """The segments in an artifact's folder, memory-mapped."""
    order, following = (mapped(path / f"{name}.npy") for name in ("order", "following"))
    found, start = [], 0
    for segment in _read_segments(path)["segments"]:
        part = slice(start, start + segment["entries"])
        found.append(Segment(segment["base"], order[part], following[part]))
        start = part.stop
    return found


def _read_segments(path: Path) -> dict[str, Any]:
    return orjson.loads((path / _SEGMENTS).read_bytes())


def _segments(chunks: ChunkStore, ids: NDArray[np.int64], at_once: int) -> list[NDArray[np.int64]]:
    """The chunk ids of each segment: whole documents, as many as fit."""
    if not len(ids):
        return []
    starts = np.flatnonzero(np.diff(np.asarray(chunks.document)[ids], prepend=-1))
    cuts, first = [], 0
    for start in [*starts[1:].tolist(), len(ids)]:
        span = int(ids[start - 1] - ids[first] + 1) * chunks.chunk_size
        if span > at_once and starts[np.searchsorted(starts, start) - 1] > first:
            first = int(starts[np.searchsorted(starts, start) - 1])
            cuts.append(first)
    return np.split(ids, cuts)


def sort_contexts(chunks: StoredTokens, ids: NDArray[np.int64]) -> Segment:
    """The segment of these chunks, whole documents in ascending order.

    Ranks of contexts of n tokens give ranks of 2 n by sorting pairs (prefix doubling, Manber and
    Myers 1993). Equal contexts are in the order of the text.
    """
    size, base = chunks.chunk_size, int(ids[0]) * chunks.chunk_size
    rows = np.asarray(chunks.tokens[ids])
    flat = (ids[:, None] * size - base + np.arange(size)).reshape(-1)
    depth = np.asarray(chunks.index)[ids].astype(np.int64)[:, None] * size + np.arange(size)
    depth = depth.reshape(-1)  # tokens before each place, in its document
    real = (rows.reshape(-1) != chunks.pad_id) & (depth > 0)
    places, depth, following = flat[real], depth[real], rows.reshape(-1)[real]
    tokens = np.zeros(flat[-1] + 1, np.int64)
    tokens[flat] = rows.reshape(-1)
    rank = np.zeros(len(tokens), np.int64)  # 0 for the empty context of a document's start
    rank[places] = tokens[places - 1] + 1
    length = 1
    while length < LONGEST:
        beyond = np.where(depth >= length, rank[np.maximum(places - length, 0)], 0)
        pairs = rank[places] * (rank.max() + 1) + beyond
        rank[places] = _ranks(pairs) + 1
        length *= 2
    order = np.argsort(rank[places] * len(tokens) + places)
    return Segment(base, places[order].astype(np.uint32), following[order])


def _ranks(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rank of each value, from 0, equal for equal values."""
    order = np.argsort(values)
    steps = np.diff(values[order], prepend=values[order[:1]]) > 0
    ranks = np.empty(len(values), np.int64)
    ranks[order] = np.cumsum(steps)
    return ranks


def intervals_of(chunks: StoredTokens, segment: Segment, context: NDArray[np.int32]) -> list[range]:
    """For each length of context from 0 to `LONGEST`, the entries that match.

    Args:
        context: [LONGEST], the last token first, -1 beyond the document's start.
    """
    tokens, size = np.asarray(chunks.tokens).reshape(-1), chunks.chunk_size
    found = [range(len(segment.order))]
    for length, token in enumerate(context.tolist(), 1):

        def before(entry: int, length: int = length) -> int:
            place = segment.base + int(segment.order[entry])
            start = chunks.first_chunk[chunks.document[place // size]] * size
            return int(tokens[place - length]) if place - length >= start else -1

        part = found[-1] if token >= 0 else range(0)
        low = part.start + bisect_left(part, token, key=before)
        high = part.start + bisect_left(part, token + 1, key=before)
        found.append(range(low, high))
    return found
