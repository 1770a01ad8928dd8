"""Group `neighbours`: how many neighbours each chunk reads, and which it may not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class NeighboursConfig:
    """Neighbour counts and filters.

    Attributes:
        k: neighbours a chunk reads, in training and, without `eval.k`, in evaluation.
        k_store: neighbours kept in the stored table; any k up to it is a slice of the table.
        min_coverage: smallest allowed share of filled neighbour slots, else an error.
        max_run: drops a neighbour that shares a run of this many tokens or more with the chunk and
            the next one, which it helps to predict; null keeps all. `eval.alphas` leaves scored
            chunks out of a figure; this leaves leaky neighbours out of the table, in training too.
        max_jaccard: drops a neighbour whose 5-grams are, to this share or more, those of the chunk
            itself (Jaccard similarity, 0.8 is usual); null keeps all.
        dedup: drops a neighbour that is so like a better one of the same chunk; null keeps all.
    """

    k: int = 2
    k_store: int = 16
    min_coverage: float = 0.9
    max_run: int | None = None
    max_jaccard: float | None = None
    dedup: float | None = None
