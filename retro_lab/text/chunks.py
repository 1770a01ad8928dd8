"""The stage `chunks`: all documents as tokens, cut into chunks of M, memory-mapped.

Legend: C chunks of all splits in document order, D documents, M tokens a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import ArrayLike, NDArray

from retro_lab.config.errors import UserError
from retro_lab.config.schema import ChunkingConfig
from retro_lab.store import Artifact, Stage, Workspace, mapped
from retro_lab.store.workspace import Produce

from .corpus import SPLITS, Corpus
from .tokenizers.base import Encoded, LosesText, Tokenizer, batches

VERSION = 1
_META, _NEIGHBOURS = "meta.json", "neighbours.npy"
_BLOCK_BYTES = 2**23  # text a block, the average loss of an interrupted build
_SMALL_VOCABULARY = 65_535
_STATS_CHUNKS = 2**16  # chunks scanned together
GATHERED_TOKENS = 2**17  # tokens gathered at once by `values`; fits the processor's cache


class ChunkStore:
    """Chunks of all documents of all splits, in order.

    A document is a boundary token of 0 bytes and the document's tokens, cut every M. Its last chunk
    is padded on the right with `pad_id`, of 0 bytes. Chunks never span documents.

    Attributes:
        tokens: uint16 or int32 [C, M].
        token_bytes: uint32 [C, M], UTF-8 bytes of raw text for each token.
        document: int32 [C].
        index: int32 [C], number of the chunk within its document, from 0.
        text_start: int64 [C], byte offset of the chunk's text in the corpus.
        first_chunk: int64 [D + 1], document d has chunks first_chunk[d]:first_chunk[d + 1].
        split: uint8 [C], index in `SPLITS`.
        neighbours: int32 [C, K], neighbours of an imported dataset, -1 for none; None for other
            stores.

    Source: RETRO, section 2.1; documents are cut separately as in its section 2.2.
    """

    neighbours: NDArray[np.int32] | None = None

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if (self.path / _NEIGHBOURS).is_file():
            self.neighbours = self._array("neighbours")
        self.tokens = self._array("tokens")
        self.token_bytes: NDArray[np.uint32] = self._array("token_bytes")
        self.document: NDArray[np.int32] = self._array("document")
        self.index: NDArray[np.int32] = self._array("index")
        self.text_start: NDArray[np.int64] = self._array("text_start")
        self.first_chunk: NDArray[np.int64] = self._array("first_chunk")
        self.split: NDArray[np.uint8] = self._array("split")
        meta = orjson.loads((self.path / _META).read_bytes())
        self.vocab_size: int = meta["vocab_size"]
        self.boundary_id: int = meta["boundary_id"]
        self.pad_id: int = meta["pad_id"]

    @classmethod
    def open(cls, path: Path) -> ChunkStore:
        """The chunks in an artifact's folder."""
        return cls(path)

    def __reduce__(self) -> tuple[type[ChunkStore], tuple[Path]]:
        return type(self), (self.path,)  # other processes map the files themselves

    def _array(self, name: str) -> NDArray:
        return mapped(self.path / f"{name}.npy")

    @property
    def num_chunks(self) -> int:
        """Number of chunks, C."""
        return self.tokens.shape[0]

    @property
    def own_chunks(self) -> int:
        """Number of chunks of the run's own corpus, the first ones; C outside a `DatabaseStore`."""
        return self.num_chunks

    @property
    def identity(self) -> NDArray[np.int32]:
        """int32 [C], equal for chunks that must not read each other.

        These are chunks of one document and, in a `DatabaseStore`, of its copies in other corpora.
        """
        return self.document

    @property
    def searched(self) -> NDArray[np.int64]:
        """Ids of the searched chunks, ascending: those of the training split that have text."""
        ids = self.chunks_of(SPLITS[0])
        parts = np.split(ids, range(_STATS_CHUNKS, len(ids), _STATS_CHUNKS))
        return np.concatenate([part[self.token_bytes[part].any(axis=1)] for part in parts])

    @property
    def chunk_size(self) -> int:
        """Tokens of a chunk, M."""
        return self.tokens.shape[1]

    @property
    def num_documents(self) -> int:
        """Number of documents, D."""
        return len(self.first_chunk) - 1

    def chunks_of(self, split: str) -> NDArray[np.int64]:
        """Ids of a split's chunks, ascending."""
        return np.flatnonzero(self.split == SPLITS.index(split))

    def values(
        self, ids: ArrayLike, continuation_chunks: int, *, at_once: int = GATHERED_TOKENS
    ) -> NDArray[np.int64]:
        """Tokens of chunks and their continuations: RET's [N, F].

        Args:
            ids: [...], chunk ids, -1 for none.
            continuation_chunks: chunks of the continuation, 1 in the paper.
            at_once: tokens gathered at a time.

        Returns:
            int64 [..., (1 + continuation_chunks) * M]; `pad_id` for missing chunks and after the
            document's end.

        Source: RETRO, section 2.2.
        """
        ids = np.asarray(ids, np.int64)
        length = 1 + continuation_chunks
        chunks = ids.reshape(-1)
        out = np.empty((len(chunks), length, self.chunk_size), np.int64)
        step = max(1, at_once // (length * self.chunk_size))
        for start in range(0, len(chunks), step):
            part = slice(start, start + step)
            rows = chunks[part, None] + np.arange(length)
            real = chunks[part] >= 0
            end = self.first_chunk[self.document[np.where(real, chunks[part], 0)] + 1]
            valid = real[:, None] & (rows < end[:, None])
            gathered = self.tokens[np.where(valid, rows, 0)]
            gathered[~valid] = self.pad_id
            out[part] = gathered
        return out.reshape(*ids.shape, length * self.chunk_size)

    def text_span(self, chunk: int) -> tuple[int, int]:
        """Byte range [start, stop) of a chunk in the corpus's text."""
        start = int(self.text_start[chunk])
        return start, start + int(self.token_bytes[chunk].sum())

    def texts(self, ids: ArrayLike, corpus: Corpus) -> list[str]:
        """Raw text of chunks [n]; a character cut by a chunk's end becomes U+FFFD.

        Raises:
            UserError: an id is -1, that of a query from outside the store.
        """
        ids = np.asarray(ids, np.int64)
        if (ids < 0).any():
            said = "a query from outside the store has no chunk whose text could be read"
            raise UserError(said, fix="a retriever of your own reads queries.raw_texts()")
        starts = self.text_start[ids]
        stops = starts + self.token_bytes[ids].sum(axis=-1, dtype=np.int64)
        spans = zip(starts, stops, strict=True)
        return [corpus.raw_span(start, stop).decode(errors="replace") for start, stop in spans]


def chunks_stage(
    config: ChunkingConfig,
    corpus: Artifact | Stage,
    tokenizer: Artifact | Stage,
    *,
    imported: bool = False,
) -> Stage:
    """The stage of the chunks; independent of window and continuation.

    Args:
        imported: whether the corpus brings its own chunks (`imported_chunks.py`).
    """
    fields: dict[str, Any] = {"chunk_size": config.chunk_size}
    if imported:
        fields["imported"] = True
    return Stage("chunks", VERSION, fields, {"corpus": corpus, "tokenizer": tokenizer})


def build_chunks(
    chunk_size: int, corpus: Corpus, tokenizer: Tokenizer, workspace: Workspace
) -> Mapping[str, Any]:
    """Tokenizes all documents and cuts them into chunks, block by block.

    Returns:
        documents, chunks, tokens (without boundaries and padding) and bytes, in total and for each
        split; for a lossy tokenizer also `spelt`, the number of bytes encoded as byte tokens.
    """
    cut = partial(_cut_documents, chunk_size, corpus, tokenizer)
    return write_chunks(corpus, tokenizer, workspace, cut)


def write_chunks(
    corpus: Corpus, tokenizer: Tokenizer, workspace: Workspace, cut: Produce
) -> dict[str, Any]:
    """Writes a store of all documents; returns the counts of `build_chunks`.

    Args:
        cut: returns the arrays of documents [first, last).
    """
    per_document = max(1, corpus.num_bytes() // corpus.num_documents)
    workspace.blocks(
        corpus.num_documents,
        max(1, _BLOCK_BYTES // per_document),
        cut,
        what="tokenizing",
        unit="documents",
        anywhere=True,
    )
    document = np.load(workspace.path / "document.npy", mmap_mode="r")
    first_chunk = np.searchsorted(document, np.arange(corpus.num_documents + 1))
    np.save(workspace.path / "first_chunk.npy", first_chunk.astype(np.int64))
    meta = {
        "vocab_size": tokenizer.vocab_size,
        "boundary_id": tokenizer.boundary_id,
        "pad_id": tokenizer.pad_id,
    }
    (workspace.path / _META).write_bytes(orjson.dumps(meta))
    return _stats(ChunkStore(workspace.path), corpus)


def _cut_documents(
    chunk_size: int, corpus: Corpus, tokenizer: Tokenizer, first: int, last: int
) -> dict[str, np.ndarray]:
    """The arrays of documents [first, last), tokenized in batches that bound memory."""
    lengths = np.diff(corpus.offsets[first : last + 1]).tolist()
    encoded: list[Encoded] = []
    for part in batches(lengths):
        texts = [corpus.text(first + i) for i in range(part.start, part.stop)]
        try:
            encoded += tokenizer.encode_batch(texts)
        except LosesText as error:
            place = part.start + next(i for i, text in enumerate(texts) if error.given[0] in text)
            name = corpus.ids[first + place]
            raise UserError(f"document {name!r}: {error.message}", error.fix) from error
    _check_bytes(first, lengths, encoded)

    sizes = np.array([1 + len(document.ids) for document in encoded], np.int64)
    counts = -(-sizes // chunk_size)  # chunks of each document
    before = np.cumsum(counts) - counts
    tokens = np.full(counts.sum() * chunk_size, tokenizer.pad_id, token_type(tokenizer))
    token_bytes = np.zeros(len(tokens), np.uint32)
    for start, document in zip(before * chunk_size, encoded, strict=True):
        body = slice(start + 1, start + 1 + len(document.ids))
        tokens[start] = tokenizer.boundary_id
        tokens[body] = document.ids
        token_bytes[body] = document.num_bytes
    shape = (-1, chunk_size)
    return chunk_arrays(
        first, last, counts, tokens.reshape(shape), token_bytes.reshape(shape), corpus
    )


def token_type(tokenizer: Tokenizer) -> type[np.integer]:
    """Smallest dtype that holds the tokenizer's ids."""
    return np.uint16 if tokenizer.vocab_size <= _SMALL_VOCABULARY else np.int32


def chunk_arrays(
    first: int,
    last: int,
    counts: NDArray[np.int64],
    tokens: np.ndarray,
    token_bytes: NDArray[np.uint32],
    corpus: Corpus,
) -> dict[str, np.ndarray]:
    """The store's arrays of documents [first, last).

    Args:
        counts: int64 [documents], chunks of each.
        tokens: [c, M], tokens of all their chunks.
        token_bytes: uint32 [c, M].
    """
    before = np.cumsum(counts) - counts
    chunk_bytes = token_bytes.sum(axis=1, dtype=np.int64)
    row = np.repeat(np.arange(len(counts)), counts)
    return {
        "tokens": tokens,
        "token_bytes": token_bytes,
        "document": (first + row).astype(np.int32),
        "index": (np.arange(len(row)) - before[row]).astype(np.int32),
        "text_start": corpus.offsets[first] + np.cumsum(chunk_bytes) - chunk_bytes,
        "split": corpus.split[first:last][row],
    }


def _check_bytes(first: int, lengths: list[int], encoded: list[Encoded]) -> None:
    """Refuses tokens that lose bytes, which would silently falsify bits-per-byte."""
    for i, (length, document) in enumerate(zip(lengths, encoded, strict=True)):
        counted = int(document.num_bytes.sum(dtype=np.int64))
        if counted != length:
            raise ValueError(
                f"document {first + i}: tokens account for {counted} of {length} bytes"
            )


def _stats(store: ChunkStore, corpus: Corpus) -> dict[str, Any]:
    filled = count_tokens(store, lambda tokens: tokens != store.pad_id)
    spells = store.vocab_size > store.pad_id + 1
    spelt = count_tokens(store, lambda tokens: tokens > store.pad_id) if spells else None
    by_split = {}
    for code, split in enumerate(SPLITS):
        documents = len(corpus.documents_of(split))
        by_split[split] = {
            "documents": documents,
            "chunks": int((store.split == code).sum()),
            "tokens": int(filled[code]) - documents,  # without boundaries
            "bytes": corpus.num_bytes(split),
        }
        if spelt is not None:
            by_split[split]["spelt"] = int(spelt[code])
    totals = {name: sum(counts[name] for counts in by_split.values()) for name in by_split["train"]}
    return totals | {"splits": by_split}


def mended_shares(counts: Mapping[str, int]) -> dict[str, float]:
    """Shares of text that the tokenizer alone would lose, from one split's or the total counts.

    Returns:
        `spelt`, the share of bytes encoded as byte tokens, and `unknown`, the share of tokens
            without
        text in an imported dataset; each only if its count exists.
    """
    of = {"spelt": "bytes", "unknown": "tokens"}
    return {n: counts[n] / max(1, counts[of[n]]) for n in of if n in counts}


def count_tokens(
    store: ChunkStore, which: Callable[[np.ndarray], NDArray[np.bool_]]
) -> NDArray[np.int64]:
    """For each split, the number of tokens that `which` selects; int64 [splits]."""
    found = np.zeros(len(SPLITS), np.int64)
    for start in range(0, store.num_chunks, _STATS_CHUNKS):
        part = slice(start, start + _STATS_CHUNKS)
        per_chunk = which(store.tokens[part]).sum(axis=1)
        found += np.bincount(store.split[part], per_chunk, len(SPLITS)).astype(np.int64)
    return found
