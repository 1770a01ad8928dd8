"""Neighbours of text outside the store: by a search, at random, or given by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from retro_lab.config.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from retro_lab.config.schema import RandomRetrieverConfig
    from retro_lab.nn import RetroConfig
    from retro_lab.text.chunks import ChunkStore
    from retro_lab.text.tokenizers import Tokenizer

    from .base import Neighbours, Retriever, TextOf
    from .embed.embedders import Embedder
    from .folder import FolderChunks


class Found(NamedTuple):
    """A neighbour that is read.

    Attributes:
        document: its document's id, or "given ..." for given text.
        score: the retriever's score; None for given text.
        text: the part that the model reads.
    """

    document: str
    score: float | None
    text: str


class NeighbourSource(Protocol):
    """Returns the neighbours to read for a query."""

    def search(self, queries: Sequence[Sequence[int]]) -> tuple[np.ndarray, list[list[Found]]]:
        """Neighbours of Q token rows of at most M: int64 [Q, K, R], and their descriptions."""
        ...


class SearchedStore(NamedTuple):
    """A searched store: its chunks, the ids of their documents, and the tokenizer."""

    chunks: ChunkStore | FolderChunks
    ids: Sequence[str]
    tokenizer: Tokenizer


class ReadPart(NamedTuple):
    """The part of a search's result that a model reads.

    Attributes:
        k: neighbours.
        continuation_chunks: chunks that follow each.
        part: slice of a neighbour's R tokens.
    """

    k: int
    continuation_chunks: int
    part: slice

    @classmethod
    def by(cls, model: RetroConfig, k: int) -> ReadPart:
        """The part that `model` reads of k neighbours."""
        return cls(k, model.neighbour_length // model.chunk_size - 1, part_read(model))


class NewTextSearch:
    """A search with queries from outside the store.

    Args:
        text: the searched store.
        read: the part that is read of each neighbour.
        retriever: a search over these chunks.
        embedder: embeds queries; None unless the retriever compares vectors.
        text_of: returns the raw text of chunks; None unless the retriever compares text.
    """

    def __init__(
        self,
        text: SearchedStore,
        read: ReadPart,
        retriever: Retriever,
        embedder: Embedder | None = None,
        text_of: TextOf | None = None,
    ) -> None:
        self.text, self.read, self.retriever, self.embedder = text, read, retriever, embedder
        self.text_of = text_of

    def search(self, queries: Sequence[Sequence[int]]) -> tuple[np.ndarray, list[list[Found]]]:
        """Neighbours as in training, without the filters, which need a chunk of the store."""
        import numpy as np

        return self._described(*self.found(queries, np.full(len(queries), -1, dtype=np.int64)))

    def found(self, queries: Sequence[Sequence[int]], document: np.ndarray) -> Neighbours:
        """[Q, K] chunks of other documents than the query's own.

        Args:
            queries: Q token rows; one of fewer than M is padded like the last chunk of a document.
            document: int64 [Q], the `identity` of each query's document; -1 outside the store.
        """
        import numpy as np

        from .base import Queries, no_texts, text_tokens
        from .embed.embedders import embed_queries
        from .filters.exclusion import search_filled

        store = self.text.chunks
        tokens = np.full((len(queries), store.chunk_size), store.pad_id, dtype=np.int64)
        for row, query in zip(tokens, queries, strict=True):
            row[: len(query)] = query
        texts = embeddings = None
        if self.embedder is not None or self.text_of is not None:
            texts = [self.text.tokenizer.decode(query) for query in queries]
        if self.embedder is not None and texts is not None:
            embeddings = embed_queries(self.embedder, texts)
        outside = np.full(len(queries), -1, dtype=np.int64)
        tokens = text_tokens(tokens, store.pad_id, store.boundary_id)
        read = self.text_of or no_texts
        asked = Queries(tokens, embeddings, document, outside, text_of=read, texts=texts)
        return search_filled(self.retriever, asked, self.read.k, store.identity)

    def _described(
        self, ids: np.ndarray, scores: np.ndarray
    ) -> tuple[np.ndarray, list[list[Found]]]:
        """Tokens of the chunks [Q, K], and their descriptions."""
        values = self.text.chunks.values(ids, self.read.continuation_chunks)
        return values, [self._found(*row) for row in zip(ids, scores, values, strict=True)]

    def _found(self, ids: np.ndarray, scores: np.ndarray, values: np.ndarray) -> list[Found]:
        chunks, names, tokenizer = self.text
        return [
            Found(
                names[int(chunks.document[chunk])],
                float(score),
                tokenizer.decode(value[self.read.part].tolist()),
            )
            for chunk, score, value in zip(ids, scores, values, strict=True)
            if chunk >= 0
        ]


class RandomChunks(NewTextSearch):
    """Chunks of the database drawn by a hash of the query's tokens: the control.

    Args:
        text: the store to draw from.
        searched: int64 [S], ids of the chunks to draw from.
        read: the part that is read of each neighbour.
        drawn: settings of the draw.
    """

    def __init__(
        self,
        text: SearchedStore,
        searched: NDArray[np.int64],
        read: ReadPart,
        drawn: RandomRetrieverConfig,
    ) -> None:
        from .search.random_neighbours import RandomRetriever

        retriever = RandomRetriever(drawn)
        retriever.chunk_ids = searched
        super().__init__(text, read, retriever)

    def found(self, queries: Sequence[Sequence[int]], document: np.ndarray) -> Neighbours:
        """[Q, K], the same chunks for the same query tokens, of any document."""
        import zlib

        import numpy as np

        from .base import Queries

        drawn = [zlib.crc32(np.asarray(query, np.int64).tobytes()) for query in queries]
        ids = np.array(drawn, np.int64)
        asked = Queries(np.empty((len(ids), 0), np.int32), None, document=ids, chunk_ids=ids)
        return self.retriever.candidates(asked, self.read.k)


class GivenNeighbours:
    """The same given texts as neighbours of every query.

    A text starts at the first token that the model reads: the neighbour's first, or the
    continuation's if only that is read. Longer texts are cut.

    Args:
        texts: one for each neighbour.
        tokenizer: the run's.
        model: lengths, and the part that is read of a neighbour.

    Raises:
        UserError: a text has no tokens.
    """

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer, model: RetroConfig) -> None:
        import numpy as np

        part = part_read(model)
        self.tokens = np.full((len(texts), model.neighbour_length), model.pad_id, dtype=np.int64)
        self.found: list[Found] = []
        self.texts = tuple(texts)
        encoded = tokenizer.encode_batch(list(texts))
        for number, (row, (ids, _)) in enumerate(zip(self.tokens, encoded, strict=True), start=1):
            if not len(ids):
                raise UserError(f"neighbour {number} has no text", fix="neighbours_text=<text>")
            places = row[part]
            read = ids[: len(places)]
            places[: len(read)] = read
            document = f"given {number}"
            if len(read) < len(ids):
                document += f", first {len(read)} of {len(ids)} tokens"
            self.found.append(Found(document, None, tokenizer.decode(read.tolist())))

    def search(self, queries: Sequence[Sequence[int]]) -> tuple[np.ndarray, list[list[Found]]]:
        """The given text for each query."""
        import numpy as np

        return np.stack([self.tokens] * len(queries)), [self.found] * len(queries)


def part_read(model: RetroConfig) -> slice:
    """The slice of a neighbour's R tokens that a model reads, by `model.value`."""
    size = model.chunk_size
    return slice(
        size if model.value == "continuation" else 0,
        size if model.value == "neighbour" else model.neighbour_length,
    )
