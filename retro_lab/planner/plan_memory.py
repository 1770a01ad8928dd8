"""Estimates for a memory of a planned corpus: files, times, and memory while they are built.

Legend: T tokens of the database, P pairs of a token and a document that has it, V vocabulary, D
width of the language model.
"""

from __future__ import annotations

import math

from retro_lab.config.schema import FaissRetrieverConfig, MemoryConfig
from retro_lab.memory.datastore import COMPRESSED, factory_for
from retro_lab.memory.sorted_contexts import SEGMENT_TOKENS

from .faiss_sizes import index_bytes
from .plan import Database, PlannedFile, array, token_bytes

_SORTING_BYTES = 70  # of memory for each token that is sorted at once
_COUNTING_BYTES = 40  # of memory for each pair
_INDEXING_BYTES = 2**16 * 4  # of memory for each number of a state: keys indexed at once
_SORTED = 5.0e6  # bytes of text a second; this and the next as docs/benchmarks.md measured them
_READING = {"suffix": 0.047e-3, "suffix and topic": 0.075e-3}  # seconds a token, of one segment
_FURTHER_SEGMENT = 0.03  # of the first one's time; measured with 4 and with 14 segments
_HEAPS = 0.65  # distinct tokens of a text grow with this power of its length (Heaps 1978)


def memory_files(planned: Database, memory: MemoryConfig, width: int) -> list[PlannedFile]:
    """Every large file of a memory's stages, in building order.

    Args:
        width: D.
    """
    tokens = planned.database * planned.chunk_size
    files: list[PlannedFile] = []
    if "suffix" in memory.experts:
        files.append(array("contexts", "order", tokens, 4))
        files.append(array("contexts", "following", tokens, token_bytes(planned)))
    if "topic" in memory.experts:
        pairs = _pairs(planned)
        files += [
            array("topics", "start", planned.vocab_size + 1, 8),
            array("topics", "document", pairs, 4),
            array("topics", "weight", pairs, 4),
            array("topics", "idf", planned.vocab_size, 4),
        ]
    if "knn" in memory.experts:
        files += [
            array("token_states", "keys", tokens * width, 2),
            array("token_states", "tokens", tokens, 4),
            array("token_states", "document", tokens, 4),
            PlannedFile("token_index", "index.faiss", _index(tokens, width)),
        ]
    return files


def memory_building(planned: Database, memory: MemoryConfig, width: int) -> dict[str, int]:
    """Peak memory by stage, in bytes: a segment is sorted at once, all pairs are counted."""
    tokens = planned.database * planned.chunk_size
    held = {"suffix": {"contexts": _SORTING_BYTES * min(tokens, SEGMENT_TOKENS)}}
    held["topic"] = {"topics": _COUNTING_BYTES * _pairs(planned)}
    if "knn" in memory.experts:
        indexing = _index(tokens, width) + _INDEXING_BYTES * width
        held["knn"] = {"token_states": 0, "token_index": indexing}
    return {stage: size for kind in memory.experts for stage, size in held[kind].items()}


def _index(tokens: int, width: int) -> int:
    """Bytes of the index of the states."""
    config = FaissRetrieverConfig(factory=factory_for(COMPRESSED, tokens, width))
    return index_bytes(config, tokens, width)


def sorting_seconds(planned: Database) -> float:
    """Seconds in which one core sorts the contexts."""
    return planned.text_bytes * planned.database / planned.chunks / _SORTED


def reading_seconds(planned: Database, memory: MemoryConfig) -> float:
    """Seconds in which one core reads suffix and topic for a token, all files in main memory."""
    segments = math.ceil(planned.database * planned.chunk_size / SEGMENT_TOKENS)
    of_one = _READING["suffix and topic" if "topic" in memory.experts else "suffix"]
    return of_one * (1 + _FURTHER_SEGMENT * (segments - 1))


def _pairs(planned: Database) -> int:
    """P, from the distinct tokens of a chunk by Heaps' law."""
    documents = planned.documents * planned.database / planned.chunks
    length = planned.database / max(1.0, documents)  # of a document, in chunks
    of_document = planned.distinct * planned.chunk_size * length**_HEAPS
    return round(max(1.0, documents) * min(of_document, planned.vocab_size))
