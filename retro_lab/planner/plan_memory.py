"""Estimates for a memory of a planned corpus: files, and memory while they are built.

Legend: T tokens of the database, P pairs of a token and a document that has it, V vocabulary.
"""

from __future__ import annotations

from retro_lab.config.schema import MemoryConfig
from retro_lab.memory.sorted_contexts import SEGMENT_TOKENS

from .plan import Database, PlannedFile, array, token_bytes

_SORTING_BYTES = 70  # of memory for each token that is sorted at once
_COUNTING_BYTES = 40  # of memory for each pair
_HEAPS = 0.65  # distinct tokens of a text grow with this power of its length (Heaps 1978)


def memory_files(planned: Database, memory: MemoryConfig) -> list[PlannedFile]:
    """Every large file of a memory's stages, in building order."""
    if not memory.experts:
        return []
    tokens = planned.database * planned.chunk_size
    files = [
        array("contexts", "order", tokens, 4),
        array("contexts", "following", tokens, token_bytes(planned)),
    ]
    if "topic" in memory.experts:
        pairs = _pairs(planned)
        files += [
            array("topics", "start", planned.vocab_size + 1, 8),
            array("topics", "document", pairs, 4),
            array("topics", "weight", pairs, 4),
            array("topics", "idf", planned.vocab_size, 4),
        ]
    return files


def memory_building(planned: Database, memory: MemoryConfig) -> dict[str, int]:
    """Peak memory by stage, in bytes: a segment is sorted at once, all pairs are counted."""
    if not memory.experts:
        return {}
    tokens = planned.database * planned.chunk_size
    held = {"contexts": _SORTING_BYTES * min(tokens, SEGMENT_TOKENS)}
    return held | (
        {"topics": _COUNTING_BYTES * _pairs(planned)} if "topic" in memory.experts else {}
    )


def _pairs(planned: Database) -> int:
    """P, from the distinct tokens of a chunk by Heaps' law."""
    documents = planned.documents * planned.database / planned.chunks
    length = planned.database / max(1.0, documents)  # of a document, in chunks
    of_document = planned.distinct * planned.chunk_size * length**_HEAPS
    return round(max(1.0, documents) * min(of_document, planned.vocab_size))
