"""When each row of a batch searches while it is generated, and where it then stands in CCA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """A row searches with its t-th token whenever t + shift is a multiple of the stride.

    That token is then the last one of a chunk to CCA, whatever chunk the text itself is in, and the
    query is the latest M tokens, or all there are.

    Attributes:
        stride: tokens from one search to the next, at most M, which is RETRO's.
        first: by row, places of the batch before the row's first token: rows of unequal length
            end together.
        shift: by row, tokens of padding that seem to stand before it (RETRO++); they move the
            searches and exist nowhere else.
    """

    stride: int
    first: tuple[int, ...]
    shift: tuple[int, ...]

    @classmethod
    def of(
        cls,
        batch: int,
        chunk_size: int,
        stride: int | None,
        first: Sequence[int] | None,
        shift: Sequence[int] | None,
    ) -> Schedule:
        """With None for the chunk size, no places before any row, and no padding.

        Raises:
            ValueError: a stride that is not one of 1..M, or not one number a row.
        """
        stride = chunk_size if stride is None else stride
        if not 1 <= stride <= chunk_size:
            raise ValueError(f"stride must be 1 to {chunk_size}, the chunk size: {stride}")
        rows = [tuple(given or (0,) * batch) for given in (first, shift)]
        if any(len(row) != batch or min(row, default=0) < 0 for row in rows):
            raise ValueError(f"first and shift need {batch} numbers from 0, one a row")
        return cls(stride, *rows)

    @property
    def phases(self) -> tuple[int, ...]:
        """By row: (place + phase) modulo the stride is the offset in the attending chunk."""
        pairs = zip(self.first, self.shift, strict=True)
        return tuple((1 - first + shift) % self.stride for first, shift in pairs)

    @property
    def aligned(self) -> bool:
        """Whether all rows have the same offset at every place."""
        return len(set(self.phases)) <= 1

    @property
    def padded(self) -> bool:
        """Whether any row begins later than the batch."""
        return any(self.first)

    def searching(self, place: int) -> list[int]:
        """Rows that search with the token at a place of the batch, from 0."""
        rows = zip(self.first, self.phases, strict=True)
        return [
            row
            for row, (first, phase) in enumerate(rows)
            if place >= first and (place + phase) % self.stride == 0
        ]

    def searches(self, start: int, stop: int) -> list[list[int]]:
        """By row, after how many of its tokens it searches within places [start, stop)."""
        found: list[list[int]] = [[] for _ in self.first]
        for place in range(start, stop):
            for row in self.searching(place):
                found[row].append(place + 1 - self.first[row])
        return found

    def reordered(self, rows: Sequence[int]) -> Schedule:
        """That of a batch made of the given rows."""
        return Schedule(
            self.stride,
            tuple(self.first[row] for row in rows),
            tuple(self.shift[row] for row in rows),
        )
