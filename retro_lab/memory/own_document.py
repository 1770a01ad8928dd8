"""The own-document cache: counts of what followed the last tokens earlier in the same document.

It is no retrieval: it needs no database, and a language model with a longer context does as much.
So it is a switch of its own, and its gain is always reported apart.

Legend: T tokens, E experts (one an order), L tokens of a text, V vocabulary.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .context_evidence import shares, statistics
from .context_reader import ContextReader
from .evidence import Evidence, Text, contexts_of
from .sorted_contexts import LONGEST, sort_contexts

ORDERS = (1, 2, 3, 4, 5, 6, 8, 12, 16)


class OneDocument:
    """A document as a store of one chunk.

    Args:
        tokens: [L], the boundary token first.
        vocab_size: V.
    """

    num_documents = 1

    def __init__(self, tokens: NDArray[np.integer], vocab_size: int) -> None:
        self.tokens = np.ascontiguousarray(tokens, np.int32)[None]
        self.document = self.index = np.zeros(1, np.int32)
        self.first_chunk = np.array([0, 1], np.int64)
        self.chunk_size = len(tokens)
        self.vocab_size, self.boundary_id, self.pad_id = vocab_size, int(tokens[0]), -1


class OwnDocument:
    """The experts of the own-document cache.

    Args:
        vocab_size: V.
        threads: processors that count.
    """

    needs_states = False
    experts = tuple(f"cache:{order}" for order in ORDERS)
    features = (
        *(f"cache:{what}_{order}" for what in ("count", "types", "share") for order in ORDERS),
        "cache:match",
    )

    def __init__(self, vocab_size: int, threads: int = 1) -> None:
        self.vocab_size, self.threads = vocab_size, threads

    def read(
        self, text: Text, start: int, stop: int, states: NDArray[np.float32] | None = None
    ) -> Evidence:
        reader, everything = self._reader(text.read[:stop])
        counts = reader.counts(
            contexts_of(text.read, start, stop, LONGEST),
            text.tokens[start:stop].astype(np.int32),
            everything,
            limits=np.arange(start, stop, dtype=np.int64),
            threads=self.threads,
        )
        total, share, match = statistics(counts, ORDERS)
        columns = np.concatenate([total, np.log1p(counts.types), share, match], axis=1)
        return Evidence(
            shares(counts.hit, counts.total)[:, :, 0],
            counts.total[:, :, 0] > 0,
            counts.favourite[:, :, 0],
            columns.astype(np.float32),
        )

    def mixture(
        self, text: Text, share: NDArray[np.float32], states: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        reader, everything = self._reader(text.tokens)
        end = len(text.tokens)
        contexts = contexts_of(text.tokens, end, end + 1, LONGEST)
        return reader.mixture(contexts, everything, share[None, :, None])[0]

    def _reader(self, tokens: NDArray[np.int32]) -> tuple[ContextReader, NDArray[np.float32]]:
        document = OneDocument(tokens, self.vocab_size)
        contexts = [sort_contexts(document, np.zeros(1, np.int64))]
        # All entries count: a sample would depend on later tokens.
        reader = ContextReader(document, contexts, orders=ORDERS, most=len(tokens))
        return reader, np.ones((1, 1), np.float32)
