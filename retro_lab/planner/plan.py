"""Estimates for a planned corpus: files and bytes of every stage, memory, and workers.

Sizes follow from the stages' file formats, so tests can compare them with real files. For FAISS
indexes, an empty index made from the factory string gives the bytes of a vector.

Legend: C chunks of all splits, S chunks of the database, D documents, M tokens a chunk, E width of
an embedding, V vocabulary.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from retro_lab.config.errors import UserError
from retro_lab.config.schema import (
    Bm25RetrieverConfig,
    EditDistanceRetrieverConfig,
    FaissRetrieverConfig,
    LdaRetrieverConfig,
    OracleRetrieverConfig,
    RandomRetrieverConfig,
    RetrieverConfig,
    StoredRetrieverConfig,
    TfidfRetrieverConfig,
)
from retro_lab.retrieval.search.faiss_blocks import sample_size, writes_blocks
from retro_lab.retrieval.search.faiss_factory import (
    as_user_error,
    centroids,
    create_index,
    fill_factory,
    lists_visited,
)

MOST_CHUNKS = 2**31 - 1
"""Chunk numbers are stored as int32."""

_HEADER = 128  # of an npy file
_SMALL_VOCABULARY = 65_535  # tokens are uint16 up to here, else int32
_LISTS = re.compile(r"IVF(\d+)")
_DISTINCT_BYTES = 16 + 16 + 8 + 8  # digest, its sorted copy, order, inverse
_NUMBER_BYTES = 8 + 8  # a chunk's id, before and after chunks without text are dropped


@dataclass(frozen=True)
class Database:
    """Sizes of the planned corpus and database.

    Attributes:
        chunks: C.
        database: S, chunks of the training split.
        documents: D.
        text_bytes: UTF-8 bytes of the text.
        chunk_size: M.
        vocab_size: V.
        distinct: distinct tokens of a chunk, as a share of M; lexical indexes store only these.
    """

    chunks: int
    database: int
    documents: int
    text_bytes: int
    chunk_size: int
    vocab_size: int
    distinct: float


@dataclass(frozen=True)
class PlannedFile:
    """A file of a stage; `name` is its path in the artifact's folder."""

    stage: str
    name: str
    bytes: int


def planned_chunks(tokens: float, chunk_size: int, document_tokens: float | None = None) -> int:
    """Number of chunks of a corpus of `tokens` tokens.

    Args:
        document_tokens: mean length of a document. Each document then adds a boundary token and
            half a chunk of padding on average. None counts one endless document, as papers do.
    """
    if document_tokens is None:
        return math.ceil(tokens / chunk_size)
    of_document = (document_tokens + 1) / chunk_size + (chunk_size - 1) / (2 * chunk_size)
    return math.ceil(tokens / document_tokens * max(1.0, of_document))


def planned_files(
    planned: Database,
    retriever: RetrieverConfig,
    width: int,
    k_store: int,
    *,
    two_sided: bool = False,
) -> list[PlannedFile]:
    """Every large file of the stages, in building order, without ids.json and manifests.

    Args:
        width: E.
        k_store: neighbours stored for each chunk.
        two_sided: chunks have a second vector for use as queries.

    Raises:
        UserError: FAISS rejects the factory, or the size of its index type is unknown.
    """
    chunks, documents = planned.chunks, planned.documents
    token = token_bytes(planned)
    files = [
        PlannedFile("corpus", "text.bin", planned.text_bytes),
        array("corpus", "offsets", documents + 1, 8),
        array("corpus", "split", documents, 1),
        array("chunks", "tokens", chunks * planned.chunk_size, token),
        array("chunks", "token_bytes", chunks * planned.chunk_size, 4),
        array("chunks", "document", chunks, 4),
        array("chunks", "index", chunks, 4),
        array("chunks", "text_start", chunks, 8),
        array("chunks", "split", chunks, 1),
        array("chunks", "first_chunk", documents + 1, 8),
    ]
    if not retriever.retrieves:
        return files
    if retriever.needs_embeddings:
        kept = ("vectors", "queries") if two_sided else ("vectors",)
        files += [array("embeddings", name, chunks * width, 2) for name in kept]
        files.append(array("embeddings", "row", chunks, 4))
    files += _index_files(planned, retriever, width, "")
    return [
        *files,
        array("neighbours", "ids", chunks * k_store, 4),
        array("neighbours", "scores", chunks * k_store, 4),
    ]


def index_bytes(config: FaissRetrieverConfig, size: int, width: int) -> int:
    """Bytes of a FAISS index of `size` vectors.

    Raises:
        UserError: FAISS rejects the factory, or the size of its index type is unknown.
    """
    empty, lists = _empty_index(config, size, width)
    return _FaissSize(config.factory, lists).of(empty, size)


def building_memory(
    planned: Database, retriever: RetrieverConfig, width: int, files: list[PlannedFile]
) -> dict[str, int]:
    """Peak memory by stage, in bytes, besides blocks of bounded size.

    `embeddings` sorts a digest of each chunk. `index` holds chunk ids, FAISS's training vectors,
    and the whole index unless FAISS builds it on disk; a lexical index and one
    of topics also hold all tokens.
    `neighbours` holds chunk ids; it memory-maps the index, which is fastest if it fits in memory.
    """
    held = {"corpus": 0, "chunks": 0}
    if not retriever.retrieves:
        return held
    index = {file.name: file.bytes for file in files if file.stage == "index"}
    building = planned.database * _NUMBER_BYTES
    dense = None
    if retriever.needs_embeddings:
        dense = retriever.dense_part
        held["embeddings"] = planned.chunks * _DISTINCT_BYTES
    if dense is not None:
        building += _training_bytes(dense, planned.database, width)
    whole = [size for name, size in index.items() if not _on_disk(dense, name, planned, width)]
    if any(name.endswith(("indptr.npy", "topics.npy")) for name in index):
        building += planned.database * planned.chunk_size * 4
    return {**held, "index": building + sum(whole), "neighbours": planned.database * _NUMBER_BYTES}


def _training_bytes(config: FaissRetrieverConfig, size: int, width: int) -> int:
    """Bytes of FAISS's training vectors, as stored (float16) and in float32."""
    empty, lists = _empty_index(config, size, width)
    if empty.is_trained:
        return 0
    return sample_size(size, max(lists, centroids(empty))) * width * (2 + 4)


def _on_disk(dense: FaissRetrieverConfig | None, name: str, planned: Database, width: int) -> bool:
    """Whether a file of the index is written in blocks, without holding it in memory."""
    if name.endswith("index.faiss"):
        if dense is None:  # mixtures of topics, indexed in memory
            return False
        return writes_blocks(_empty_index(dense, planned.database, width)[0])
    return name.endswith(("vectors.npy", "chunk_ids.npy"))


def workers_for(seconds: float, deadline: float) -> int:
    """Parallel workers that finish `seconds` of work within `deadline` seconds."""
    return max(1, math.ceil(seconds / deadline))


@dataclass(frozen=True)
class Lists:
    """Inverted lists of an index.

    Attributes:
        factory: factory string with all sizes filled in.
        count: number of lists.
        probed: lists that a query visits.
    """

    factory: str
    count: int
    probed: int


def inverted_lists(config: FaissRetrieverConfig, size: int, width: int) -> Lists | None:
    """The inverted lists of an index of `size` vectors; None if it has none."""
    factory = fill_factory(config.factory, size, width, config.nlist, config.pq)
    found = _LISTS.search(factory)
    if found is None:
        return None
    count = int(found.group(1))
    return Lists(factory, count, lists_visited(count, config.nprobe))


def _index_files(
    planned: Database, retriever: RetrieverConfig, width: int, folder: str
) -> list[PlannedFile]:
    size = planned.database
    ids = array("index", f"{folder}chunk_ids", size, 8)
    match retriever:
        case FaissRetrieverConfig():
            found = [
                ids,
                PlannedFile("index", f"{folder}index.faiss", index_bytes(retriever, size, width)),
            ]
            if retriever.rerank is not None:
                found.append(array("index", f"{folder}vectors", size * width, 2))
            return found
        case Bm25RetrieverConfig():
            return [ids, *_postings(planned, folder)]
        case TfidfRetrieverConfig():
            idf = array("index", f"{folder}idf", planned.vocab_size, 4)
            return [ids, *_postings(planned, folder), idf]
        case RandomRetrieverConfig() | StoredRetrieverConfig():
            return [ids]
        case LdaRetrieverConfig():
            words = array("index", f"{folder}topics", retriever.topics * planned.vocab_size, 4)
            nearest = FaissRetrieverConfig()
            return [
                words,
                *_index_files(planned, nearest, retriever.topics, f"{folder}mixtures/"),
            ]
        case OracleRetrieverConfig() | EditDistanceRetrieverConfig():
            tokens = array("index", f"{folder}tokens", size * planned.chunk_size, 4)
            return [*_index_files(planned, retriever.bm25, width, f"{folder}bm25/"), tokens]
    parts = retriever.parts()
    if not parts:
        raise UserError(
            f"retriever={retriever.name}: the planner doesn't know what it stores",
            fix="plan with the retriever whose index it searches",
        )
    return [
        f for name, part in parts.items() for f in _index_files(planned, part, width, f"{name}/")
    ]


def _empty_index(config: FaissRetrieverConfig, size: int, width: int) -> tuple[Any, int]:
    """An empty index with a single inverted list, and the factory's real number of lists.

    A single list saves the memory of millions of empty ones.
    """
    factory = fill_factory(config.factory, size, width, config.nlist, config.pq)
    lists = [int(count) for count in _LISTS.findall(factory)]
    with as_user_error(config.factory, factory, size, width):
        return create_index(_LISTS.sub("IVF1", factory), width), lists[0] if lists else 0


def _postings(planned: Database, folder: str) -> list[PlannedFile]:
    """Files of a sparse matrix (CSR) with a score for each distinct token of each chunk."""
    count = round(planned.database * planned.chunk_size * planned.distinct)
    number = 4 if max(count, planned.vocab_size) <= MOST_CHUNKS else 8
    return [
        array("index", f"{folder}data", count, 4),
        array("index", f"{folder}indices", count, number),
        array("index", f"{folder}indptr", planned.database + 1, number),
    ]


def token_bytes(planned: Database) -> int:
    """Bytes of a stored token."""
    return 2 if planned.vocab_size <= _SMALL_VOCABULARY else 4


def array(stage: str, name: str, numbers: int, bytes_each: int) -> PlannedFile:
    """The file of an array."""
    return PlannedFile(stage, f"{name}.npy", _HEADER + numbers * bytes_each)


@dataclass(frozen=True)
class _FaissSize:
    """Computes the bytes of a FAISS index from an empty one.

    Attributes:
        factory: factory string, for messages.
        lists: real number of inverted lists; the empty index has one.
    """

    factory: str
    lists: int

    def of(self, empty: Any, size: int) -> int:
        """Bytes of an index like `empty` with `size` vectors."""
        import faiss

        index = faiss.downcast_index(empty)
        if isinstance(index, faiss.IndexPreTransform):
            chain: Any = index.chain
            steps = [faiss.downcast_VectorTransform(chain.at(i)) for i in range(chain.size())]
            return sum(map(_transform_bytes, steps)) + self.of(index.index, size)
        if isinstance(index, faiss.IndexRefine):
            return self.of(index.base_index, size) + self.of(index.refine_index, size)
        if isinstance(index, (faiss.IndexIDMap, faiss.IndexIDMap2)):
            return 8 * size + self.of(index.index, size)
        if isinstance(index, faiss.IndexHNSW):
            return self.of(index.storage, size) + round(size * _link_bytes(index.hnsw))
        if isinstance(index, faiss.IndexIVF):
            centroids = self.of(index.quantizer, self.lists)
            stored = size * (index.code_size + 8) + 8 * self.lists
            return stored + centroids + _codebook_bytes(index)
        if isinstance(index, faiss.IndexFlatCodes):
            return size * index.code_size + _codebook_bytes(index)
        raise UserError(
            f"retriever.factory={self.factory}: the planner doesn't know the size of "
            f"{type(index).__name__}",
            fix="plan with a factory of Flat, IVF, PQ, SQ, HNSW and OPQ, or build a sample of it",
        )


def _link_bytes(hnsw: Any) -> float:
    """Mean bytes a vector for its HNSW links, level and offset.

    With each level, the share of vectors that reach it is divided by the degree.
    """
    degree = hnsw.nb_neighbors(1)
    links = hnsw.nb_neighbors(0) + degree / (degree - 1)
    return 4 * links + 4 + 8


def _codebook_bytes(index: Any) -> int:
    """Bytes of a product quantiser's centroids, or of a scalar quantiser's ranges."""
    if hasattr(index, "pq"):
        return 4 * index.pq.ksub * index.pq.d
    return 8 * index.d if hasattr(index, "sq") else 0


def _transform_bytes(transform: Any) -> int:
    import faiss

    if isinstance(transform, faiss.PCAMatrix):  # stores the whole basis and the part in use
        return 4 * (transform.d_in + transform.d_out + 2) * transform.d_in
    return 4 * transform.d_in * transform.d_out
