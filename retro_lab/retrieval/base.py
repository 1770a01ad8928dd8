"""What every retriever is: the arrays that go in, the arrays that come out, and the protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from retro_lab.store.workspace import Workspace
    from retro_lab.text.chunks import ChunkStore

    from .embed.embedders import Embeddings

NO_CHUNK = -1
"""In an array of chunk ids: no neighbour here."""

NO_TOKEN = -1
"""In an array of tokens: padding or a document boundary, so nothing to match on."""


TextOf = Callable[[np.ndarray], list[str]]
"""From chunk ids [n] to the raw text of each."""


class Neighbours(NamedTuple):
    """Chunks found for each query, best first.

    Attributes:
        ids: int64 [Q, K], global chunk ids, -1 where there is none (always at the end of a row).
        scores: float32 [Q, K], higher is better, -inf where there is no neighbour.
    """

    ids: np.ndarray
    scores: np.ndarray

    @classmethod
    def empty(cls, rows: int, k: int) -> Self:
        """No neighbour anywhere."""
        ids = np.full((rows, k), NO_CHUNK, dtype=np.int64)
        return cls(ids, np.full((rows, k), -np.inf, dtype=np.float32))


class Queries(NamedTuple):
    """Chunks to find neighbours for, one a row.

    Attributes:
        tokens: int32 [Q, M], -1 where a token is padding or a document boundary.
        embeddings: float32 [Q, E], or None for retrievers that don't need them.
        document: int64 [Q], the chunk's document (its `identity` in the store); -1 for text that
            isn't in the store.
        chunk_ids: int64 [Q], the chunk's global id; -1 for text that isn't in the store.
        following: int32 [Q, M], tokens of the next chunk of the same document, of the chunk itself
            where it is the last. The model is to PREDICT them: only the oracle may look.
        text_of: raw text of any chunk of the store, for retrievers that read text.
        given: int64 [Q, K], neighbours that the store brings with it, -1 for none; None for text
            and stores that have none.
    """

    tokens: np.ndarray
    embeddings: np.ndarray | None
    document: np.ndarray
    chunk_ids: np.ndarray
    following: np.ndarray | None = None
    text_of: TextOf | None = None
    given: np.ndarray | None = None

    def take(self, rows: np.ndarray | slice) -> Queries:
        """The same queries at `rows` only."""
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
        )


class Rows:
    """The database's rows of an array, each gathered when it is read, never all at once.

    Args:
        ids: int64 [S], chunk ids.
        gather: from ids [n] to rows [n, ...].
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
"""[S, ...]: read by slices or by positions, and by `np.asarray` where all is needed at once."""


class Retriever(Protocol):
    """A search over the chunks of a database; constructed from its configuration alone.

    Attributes:
        needs_embeddings: whether `build` and `candidates` read embeddings.
        exact: whether it finds all that it should; the recall of one that doesn't is measured
            against exact search over the same embeddings.
    """

    needs_embeddings: ClassVar[bool]

    def __init__(self, config: Any) -> None: ...

    @property
    def exact(self) -> bool: ...

    @classmethod
    def index_fields(cls, config: Any) -> Mapping[str, Any]:
        """The settings that change what `save` writes; the others act at search time only."""
        ...

    def build(
        self,
        chunk_ids: np.ndarray,
        tokens: RowSource,
        embeddings: RowSource | None,
        workspace: Workspace | None = None,
    ) -> Mapping[str, Any]:
        """Index the database's chunks and return facts for people about the index.

        Args:
            chunk_ids: int64 [S], global chunk ids, ascending.
            tokens: int32 [S, M], -1 where a token is padding or a document boundary.
            embeddings: float16 or float32 [S, E], or None if `needs_embeddings` is false.
            workspace: where to build on disk, in blocks that resume; None builds in memory.

        Raises:
            UserError: the configuration can't index this database.
        """
        ...

    def candidates(self, queries: Queries, k: int) -> Neighbours:
        """The k best chunks of each query, best first, ties by ascending chunk id.

        The query's own document isn't excluded: `search_filled` does that. A row that ends in -1
        has no further candidates, however large k is made.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write the index into an existing folder."""
        ...

    @classmethod
    def load(cls, folder: Path, config: Any) -> Self:
        """Open what `save` wrote, memory-mapped where the library can."""
        ...


def text_tokens(tokens: np.ndarray, pad_id: int, boundary_id: int) -> np.ndarray:
    """Tokens as retrievers see them: int32, with padding and boundaries replaced by -1."""
    special = (tokens == pad_id) | (tokens == boundary_id)
    return np.where(special, np.int32(NO_TOKEN), tokens.astype(np.int32))


def chunk_queries(
    chunks: ChunkStore,
    embeddings: Embeddings | None,
    ids: np.ndarray,
    text_of: TextOf | None = None,
) -> Queries:
    """Stored chunks as queries.

    Args:
        chunks: the store that `ids` refers to.
        embeddings: vectors of all its chunks, or None for retrievers that don't need them.
        ids: int64 [Q], global chunk ids.
        text_of: raw text of its chunks, or None for retrievers that don't need it.
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
