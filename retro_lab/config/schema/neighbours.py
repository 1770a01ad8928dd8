"""Group `neighbours`: how many neighbours each chunk reads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class NeighboursConfig:
    """Neighbour counts.

    Attributes:
        k: neighbours a chunk reads, in training and evaluation.
        k_store: neighbours kept in the stored table; any k up to it is a slice of the table.
        min_coverage: smallest allowed share of filled neighbour slots, else an error.
    """

    k: int = 2
    k_store: int = 16
    min_coverage: float = 0.9
