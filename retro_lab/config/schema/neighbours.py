"""Group `neighbours`: how many neighbours each chunk reads, and which are filtered out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import UserError, problem
from .setting import setting


@dataclass
class NeighboursConfig:
    """Neighbour counts and filters.

    Attributes:
        k: neighbours a chunk reads, in training and, without `eval.k`, in evaluation.
        k_store: neighbours kept in the stored table; a smaller k reads a slice of the table.
        min_coverage: smallest allowed share of filled neighbour slots, else an error.
        max_run: drops a neighbour that shares a run of this many tokens or more with the chunk and
            the next one, which the neighbour helps to predict; null keeps all. Applies in training
            too, while `eval.alphas` only leaves chunks out of a score.
        max_jaccard: drops a neighbour whose 5-grams have at least this Jaccard similarity with
            those of the chunk (0.8 is usual); null keeps all.
        dedup: drops a neighbour with this similarity to a better neighbour of the same chunk; null
            keeps all.
    """

    k: int = setting(2, at_least=1, at_most=2**12)
    k_store: int = setting(16, at_least=1, at_most=2**12)
    min_coverage: float = setting(0.9, at_least=0, at_most=1, identity=False)
    max_run: int | None = setting(None, at_least=1)
    max_jaccard: float | None = setting(None, neutral=None)
    dedup: float | None = setting(None, neutral=None)

    def problems(self, prefix: str) -> Iterator[UserError]:
        if self.k > self.k_store:
            yield problem(
                f"{prefix}k",
                self.k,
                f"only {self.k_store} neighbours are stored (neighbours.k_store)",
                f"{prefix}k_store={self.k}",
            )
        for name in ("max_jaccard", "dedup"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:  # 0 would drop every neighbour
                yield problem(
                    f"{prefix}{name}",
                    value,
                    "is a similarity, above 0 and at most 1",
                    f"{prefix}{name}=0.8, or null to keep all",
                )
