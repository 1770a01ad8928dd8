"""How much of the scored text stands in the training text: exact runs of bytes, and bpb(alpha).

Bytes are compared, so that scorers with different tokens are audited alike. A chunk is 256 bytes of
a document, about the 64 tokens of the paper. r(C) is the longest run that a chunk shares with the
training text, over the chunk's bytes (RETRO, section 2.6). A token belongs to the chunk that its
first byte is in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retro_lab.evaluation.measure.exact_overlap import chunk_runs, covered, matching_runs
from retro_lab.evaluation.measure.overlap import within
from retro_lab.evaluation.measure.statistics import Bootstrap, chunk_intervals
from retro_lab.store import track
from retro_lab.text.runs import window_hashes

from .scores import Scores, TokenScores
from .texts import Text

CHUNK = 256
ALPHAS = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
BLOCK_BYTES = 2**22
"""Bytes of either text that are compared at once, in about 40 bytes of memory each."""
SHORTEST = 16
"""Runs of fewer bytes count as none: every two texts share them."""
_MOST_BITS = 28  # of the table of windows: 256 MiB
_GAP = 256  # between documents; matches nothing


@dataclass(frozen=True)
class DocumentOverlap:
    """Overlap of one document.

    Attributes:
        id: its name.
        bytes: its size.
        share: share of its bytes in long runs that the training text has.
        longest_run: bytes of the longest such run, counted to 256.
        example: the text of this run.
    """

    id: str
    bytes: int
    share: float
    longest_run: int
    example: str


@dataclass(frozen=True)
class Overlap:
    """Overlap of the text with the training text.

    Attributes:
        min_run: bytes of a long run; of a shorter document, all its bytes.
        least_share: share of a document's bytes in long runs from which on it counts as leaked.
        train_bytes: size of the training text.
        documents: one for each document, in the order of the text.
        runs: [chunks] longest run of each chunk, by document.
    """

    min_run: int
    least_share: float
    train_bytes: int
    documents: Sequence[DocumentOverlap]
    runs: Sequence[NDArray[np.int32]]

    @property
    def share(self) -> float:
        """Share of the text's bytes in long runs."""
        found = sum(each.share * each.bytes for each in self.documents)
        return found / sum(each.bytes for each in self.documents)

    @property
    def leaked(self) -> list[DocumentOverlap]:
        """The leaked documents, in the order of the text."""
        return [each for each in self.documents if each.share >= self.least_share]


@dataclass(frozen=True)
class CurvePoint:
    """Bits per byte on the chunks with r(C) <= alpha.

    Attributes:
        alpha: upper bound on r(C); 1 keeps all.
        bpb: None without chunks.
        low: lower end of the 95 % interval over documents; None with fewer than five documents.
        high: upper end.
        chunks: number of chunks kept.
        tokens: their tokens.
        bytes: their bytes.
        documents: documents with a kept chunk.
    """

    alpha: float
    bpb: float | None
    low: float | None
    high: float | None
    chunks: int
    tokens: int
    bytes: int
    documents: int


def overlap_of(
    texts: Sequence[Text],
    train: Iterable[bytes],
    min_run: int,
    least_share: float,
    *,
    at_once: int = BLOCK_BYTES,
) -> Overlap:
    """Compares a text with the training text, block by block.

    Args:
        min_run: bytes of a long run, at most 256.
        least_share: of a document's bytes in long runs, for a leaked document.
        at_once: bytes of either text that are compared at once.
    """
    parts = _whole_documents(texts, at_once)
    longest = [np.zeros(sum(len(text.raw) + 1 for text in part), np.int16) for part in parts]
    size, seen = 0, _Windows(parts)
    with track(None, "comparing with the training text", "bytes") as advance:
        for database in _training_blocks(train, at_once):
            likely = seen.likely(database.codes)
            for part, best in zip(parts, longest, strict=True):
                found = matching_runs(_codes(part), likely, (_GAP,), CHUNK)
                found[found < SHORTEST] = 0
                np.maximum(best, found, out=best, casting="unsafe")
            size += database.new_bytes
            advance(database.new_bytes)
    matching = np.concatenate(longest)
    documents, runs, start = [], [], 0
    for text in texts:
        own = matching[start : start + len(text.raw)]
        start += len(text.raw) + 1
        documents.append(_document(text, own, min_run))
        padded = np.zeros(-(-len(own) // CHUNK) * CHUNK, np.int16)
        padded[: len(own)] = own
        runs.append(chunk_runs(padded.reshape(-1, CHUNK)))
    return Overlap(min_run, least_share, size, documents, runs)


def curve(texts: Sequence[Text], scores: Scores, overlap: Overlap | None) -> list[CurvePoint]:
    """bpb(alpha) with its intervals; the point of alpha 1 alone if overlap was not measured."""
    columns = [_chunks(text, each) for text, each in zip(texts, scores.documents, strict=True)]
    nats, tokens, num_bytes = (np.concatenate(column) for column in zip(*columns, strict=True))
    document = np.repeat(np.arange(len(texts)), [len(column[0]) for column in columns])
    if overlap is None:
        return [_point(1.0, np.ones(len(nats), bool), document, nats, tokens, num_bytes)]
    runs = np.concatenate(overlap.runs)
    return [
        _point(alpha, within(alpha, runs, num_bytes), document, nats, tokens, num_bytes)
        for alpha in ALPHAS
    ]


def _point(
    alpha: float,
    kept: NDArray[np.bool_],
    document: NDArray[np.int64],
    nats: NDArray[np.float64],
    tokens: NDArray[np.int64],
    num_bytes: NDArray[np.int64],
) -> CurvePoint:
    nats, num_bytes = nats[kept], num_bytes[kept]
    size, total = int(num_bytes.sum()), math.fsum(nats)
    # The interval of a difference from no nats at all is the interval of the figure itself.
    conditions = {"scorer": nats, "nothing": np.zeros(len(nats))}
    pair = ("scorer", "nothing")
    finite = bool(np.isfinite(nats).all())
    intervals, documents = chunk_intervals(
        document[kept], conditions, num_bytes, [pair] if finite else [], Bootstrap()
    )
    low, high = intervals.get(pair) or (None, None)
    bpb = total / math.log(2) / size if size and finite else None
    return CurvePoint(alpha, bpb, low, high, len(nats), int(tokens[kept].sum()), size, documents)


def _chunks(
    text: Text, scores: TokenScores
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Nats, tokens and bytes of a document's chunks."""
    count = -(-len(text.raw) // CHUNK)
    chunk = np.clip(scores.start // CHUNK, 0, count - 1)
    size = np.minimum(len(text.raw) - CHUNK * np.arange(count), CHUNK)
    nats = np.bincount(chunk, scores.nats, count).astype(np.float64)
    return nats, np.bincount(chunk, minlength=count).astype(np.int64), size


def _document(text: Text, matching: NDArray[np.int16], min_run: int) -> DocumentOverlap:
    """A document shorter than a long run is shared if it stands whole in the training text."""
    place = int(matching.argmax())
    longest = int(matching[place])
    return DocumentOverlap(
        id=text.id,
        bytes=len(text.raw),
        share=float(covered(matching, min(min_run, len(text.raw))).mean()),
        longest_run=longest,
        example=text.raw[place : place + longest].decode(errors="replace"),
    )


class _Windows:
    """Windows of `SHORTEST` bytes of the scored text, to pass over training text without any.

    Args:
        parts: the scored text.
    """

    def __init__(self, parts: Sequence[Sequence[Text]]) -> None:
        size = sum(len(text.raw) + 1 for part in parts for text in part)
        bits = min(_MOST_BITS, (8 * size).bit_length())
        self._shift = np.uint64(64 - bits)
        self._seen = np.zeros(2**bits, bool)
        for part in parts:
            self._seen[self._hashes(_codes(part))] = True

    def likely(self, codes: NDArray[np.int16]) -> NDArray[np.int16]:
        """The text without the bytes that lie in none of these windows, and gaps in their place."""
        kept = np.zeros(len(codes) + 1, bool)
        ends = np.full(len(codes), -1)
        hits = np.flatnonzero(self._seen[self._hashes(codes)])
        ends[hits] = hits + SHORTEST
        kept[:-1] = np.maximum.accumulate(ends) > np.arange(len(codes))
        gaps = np.append(False, kept[:-1]) & ~kept
        found = np.append(codes, np.int16(_GAP))
        found[gaps] = _GAP
        return found[kept | gaps]

    def _hashes(self, codes: NDArray[np.int16]) -> NDArray[np.uint64]:
        return window_hashes(codes[None].astype(np.int32), SHORTEST)[0] >> self._shift


def _codes(texts: Iterable[Text]) -> NDArray[np.int16]:
    """Bytes of documents, each with a gap behind it."""
    return np.concatenate([_with_gap(text.raw) for text in texts])


def _with_gap(raw: bytes) -> NDArray[np.int16]:
    return np.append(np.frombuffer(raw, np.uint8).astype(np.int16), np.int16(_GAP))


def _whole_documents(texts: Sequence[Text], at_once: int) -> list[list[Text]]:
    """The documents in groups that reach this size."""
    groups: list[list[Text]] = [[]]
    size = 0
    for text in texts:
        if size >= at_once:
            groups.append([])
            size = 0
        groups[-1].append(text)
        size += len(text.raw)
    return groups


class _Block(NamedTuple):
    """A part of the training text.

    Attributes:
        codes: bytes and gaps; begins with the end of the block before it, for runs across.
        new_bytes: bytes that no earlier block has.
    """

    codes: NDArray[np.int16]
    new_bytes: int


def _training_blocks(documents: Iterable[bytes], at_once: int) -> Iterator[_Block]:
    held: list[NDArray[np.int16]] = []
    size = new = 0
    for raw in documents:
        codes = _with_gap(raw)
        for start in range(0, len(codes), at_once):
            piece = codes[start : start + at_once]
            held.append(piece)
            size += len(piece)
            new += int((piece != _GAP).sum())
            if size >= at_once:
                block = np.concatenate(held)
                yield _Block(block, new)
                held, size, new = [block[-CHUNK:]], 0, 0
    if size:
        yield _Block(np.concatenate(held), new)
