"""Estimates for a planned corpus: files and bytes of every stage, memory, and workers.

Sizes follow from the stages' file formats, so tests can compare them with real files. For FAISS
indexes, an empty index made from the factory string gives the bytes of a vector.

Legend: C chunks of all splits, S chunks of the database, D documents, M tokens a chunk, E width of
an embedding, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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
from retro_lab.retrieval.search.faiss_factory import centroids

from .faiss_sizes import empty_index, index_bytes

MOST_CHUNKS = 2**31 - 1
"""Chunk numbers are stored as int32."""

_HEADER = 128  # of an npy file
_SMALL_VOCABULARY = 65_535  # tokens are uint16 up to here, else int32
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
    empty, lists = empty_index(config, size, width)
    if empty.is_trained:
        return 0
    return sample_size(size, max(lists, centroids(empty))) * width * (2 + 4)


def _on_disk(dense: FaissRetrieverConfig | None, name: str, planned: Database, width: int) -> bool:
    """Whether a file of the index is written in blocks, without holding it in memory."""
    if name.endswith("index.faiss"):
        if dense is None:  # mixtures of topics, indexed in memory
            return False
        return writes_blocks(empty_index(dense, planned.database, width)[0])
    return name.endswith(("vectors.npy", "chunk_ids.npy"))


def workers_for(seconds: float, deadline: float) -> int:
    """Parallel workers that finish `seconds` of work within `deadline` seconds."""
    return max(1, math.ceil(seconds / deadline))


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
