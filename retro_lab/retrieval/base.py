"""The retriever protocol with its inputs (queries) and outputs (neighbours)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self, TypeAlias

import numpy as np

from retro_lab.config.errors import UserError

if TYPE_CHECKING:
    from retro_lab.store.workspace import Workspace
    from retro_lab.text.chunks import ChunkStore

    from .embed.embedders import Embeddings

NO_CHUNK = -1
"""In an array of chunk ids: no neighbour."""

NO_TOKEN = -1
"""In an array of tokens: padding or a document boundary, which matches nothing."""


TextOf = Callable[[np.ndarray], list[str]]
"""Maps chunk ids [n] to the raw text of each chunk."""


def no_texts(_: np.ndarray) -> list[str]:
    """The `TextOf` of a search that has no raw text; always raises `UserError`."""
    raise UserError(
        "the retriever compares raw text, which this search doesn't have",
        fix="use a retriever that compares tokens or vectors, such as retriever=bm25",
    )


class Neighbours(NamedTuple):
    """Chunks found for each query, best first.

    Attributes:
        ids: int64 [Q, K], global chunk ids, -1 for none (always at the end of a row).
        scores: float32 [Q, K], higher is better, -inf for none.
    """

    ids: np.ndarray
    scores: np.ndarray

    @classmethod
    def empty(cls, rows: int, k: int) -> Self:
        """Rows without any neighbour."""
        ids = np.full((rows, k), NO_CHUNK, dtype=np.int64)
        return cls(ids, np.full((rows, k), -np.inf, dtype=np.float32))


class Queries(NamedTuple):
    """Chunks to find neighbours for, one a row.

    Attributes:
        tokens: int32 [Q, M], -1 for padding and document boundaries.
        embeddings: float32 [Q, E], or None for retrievers without embeddings.
        document: int64 [Q], the chunk's document (its `identity` in the store); -1 for text outside
            the store.
        chunk_ids: int64 [Q], the chunk's global id; -1 for text outside the store.
        following: int32 [Q, M], tokens of the document's next chunk, or of the chunk itself if it
            is the last. The model must PREDICT them: only the oracle may read them.
        text_of: returns the raw text of chunks of the store, for retrievers that read text.
        texts: the raw text of each query outside the store; None for chunks of the store.
        given: int64 [Q, K], neighbours that came with the store, -1 for none; None without any.
    """

    tokens: np.ndarray
    embeddings: np.ndarray | None
    document: np.ndarray
    chunk_ids: np.ndarray
    following: np.ndarray | None = None
    text_of: TextOf = no_texts
    given: np.ndarray | None = None
    texts: Sequence[str] | None = None

    def raw_texts(self) -> list[str]:
        """The raw text of each query, in the store or not.

        Raises:
            UserError: the search has no raw text.
        """
        return self.text_of(self.chunk_ids) if self.texts is None else list(self.texts)

    def take(self, rows: np.ndarray | slice) -> Queries:
        """The queries at `rows`."""
        texts = None if self.texts is None else np.array(self.texts, object)[rows].tolist()
        embeddings = None if self.embeddings is None else self.embeddings[rows]
        following = None if self.following is None else self.following[rows]
        return Queries(
            self.tokens[rows],
            embeddings,
            self.document[rows],
            self.chunk_ids[rows],
            following,
            self.text_of,
            None if self.given is None else self.given[rows],
            texts,
        )


class Rows:
    """Rows of an array for the database's chunks, gathered when indexed.

    Args:
        ids: int64 [S], chunk ids.
        gather: maps ids [n] to rows [n, ...].
    """

    def __init__(self, ids: np.ndarray, gather: Callable[[np.ndarray], np.ndarray]) -> None:
        self.ids, self.gather = ids, gather

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, where: slice | np.ndarray) -> np.ndarray:
        return self.gather(self.ids[where])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.gather(self.ids), dtype)


RowSource: TypeAlias = np.ndarray | Rows
"""[S, ...]: indexed by slices or positions, or read completely by `np.asarray`."""


class Retriever(Protocol):
    """A search over the chunks of a database; constructed from its configuration alone.

    A class of a user's own may inherit from it, and then has the defaults below.

    Attributes:
        needs_embeddings: whether `build` and `candidates` read embeddings; by default not.
        exact: whether the search is exact, the default; otherwise its recall is measured against
            exact search over the same embeddings.
    """

    needs_embeddings: ClassVar[bool] = False

    def __init__(self, config: Any) -> None: ...

    @property
    def exact(self) -> bool:
        return True

    @classmethod
    def index_fields(cls, config: Any) -> Mapping[str, Any]:
        """The settings that change the saved index; the others act at search time only.

        All settings of a user's own retriever change it, whatever this returns: by default nothing.
        """
        return {}

    def build(
        self,
        chunk_ids: np.ndarray,
        tokens: RowSource,
        embeddings: RowSource | None,
        workspace: Workspace | None = None,
    ) -> Mapping[str, Any]:
        """Indexes the database's chunks and returns facts about the index for messages.

        Args:
            chunk_ids: int64 [S], global chunk ids, ascending.
            tokens: int32 [S, M], -1 for padding and document boundaries.
            embeddings: float16 or float32 [S, E], or None if `needs_embeddings` is false.
            workspace: builds on disk, in blocks that resume; None builds in memory.

        Raises:
            UserError: the configuration can't index this database.
        """
        ...

    def candidates(self, queries: Queries, k: int) -> Neighbours:
        """The k best chunks of each query, best first, ties by ascending chunk id.

        The query's own document is included: `search_filled` excludes it. A row that ends in -1 has
        no further candidates for any k.
        """
        ...

    def save(self, folder: Path) -> None:
        """Writes the index into an existing folder."""
        ...

    @classmethod
    def load(cls, folder: Path, config: Any) -> Self:
        """Opens a saved index, memory-mapped if the library supports it."""
        ...


def text_tokens(tokens: np.ndarray, pad_id: int, boundary_id: int) -> np.ndarray:
    """Tokens for retrievers: int32, with padding and boundaries replaced by -1."""
    special = (tokens == pad_id) | (tokens == boundary_id)
    return np.where(special, np.int32(NO_TOKEN), tokens.astype(np.int32))


def chunk_queries(
    chunks: ChunkStore,
    embeddings: Embeddings | None,
    ids: np.ndarray,
    text_of: TextOf = no_texts,
) -> Queries:
    """Queries from stored chunks.

    Args:
        chunks: the store that `ids` refers to.
        embeddings: vectors of all its chunks, or None for retrievers without embeddings.
        ids: int64 [Q], global chunk ids.
        text_of: returns the chunks' raw text, for retrievers that read text.
    """
    ids = np.asarray(ids, dtype=np.int64)
    document = chunks.document[ids].astype(np.int64)
    following = np.minimum(ids + 1, chunks.first_chunk[document + 1] - 1)
    return Queries(
        tokens=text_tokens(chunks.tokens[ids], chunks.pad_id, chunks.boundary_id),
        embeddings=None if embeddings is None else embeddings.queries_of(ids).astype(np.float32),
        document=chunks.identity[ids].astype(np.int64),
        chunk_ids=ids,
        following=text_tokens(chunks.tokens[following], chunks.pad_id, chunks.boundary_id),
        text_of=text_of,
        given=None if chunks.neighbours is None else chunks.neighbours[ids].astype(np.int64),
    )
