"""When each row of a batch searches during generation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """A row searches at its t-th token if t + shift is a multiple of the stride.

    That token counts as the last one of a chunk for CCA, whatever the chunk grid of the text. The
    query is the latest M tokens, or all of fewer.

    Attributes:
        stride: tokens between searches, at most M, RETRO's value.
        first: for each row, batch positions before its first token, so that rows of unequal length
            end together.
        shift: for each row, tokens of virtual padding in front (RETRO++); they only shift the
            searches.
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
        """A schedule; by default stride M, no positions before any row, and no shift.

        Raises:
            ValueError: a stride outside 1..M, or a wrong number of values.
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
        """For each row, its phase: (position + phase) % stride is the offset in the chunk."""
        pairs = zip(self.first, self.shift, strict=True)
        return tuple((1 - first + shift) % self.stride for first, shift in pairs)

    @property
    def aligned(self) -> bool:
        """Whether all rows have the same offset at every position."""
        return len(set(self.phases)) <= 1

    @property
    def padded(self) -> bool:
        """Whether any row begins later than the batch."""
        return any(self.first)

    def searching(self, place: int) -> list[int]:
        """Rows that search at the token at a batch position, from 0."""
        rows = zip(self.first, self.phases, strict=True)
        return [
            row
            for row, (first, phase) in enumerate(rows)
            if place >= first and (place + phase) % self.stride == 0
        ]

    def searches(self, start: int, stop: int) -> list[list[int]]:
        """For each row, its token counts at which it searches within positions [start, stop)."""
        found: list[list[int]] = [[] for _ in self.first]
        for place in range(start, stop):
            for row in self.searching(place):
                found[row].append(place + 1 - self.first[row])
        return found

    def reordered(self, rows: Sequence[int]) -> Schedule:
        """The schedule of a batch made of the given rows."""
        return Schedule(
            self.stride,
            tuple(self.first[row] for row in rows),
            tuple(self.shift[row] for row in rows),
        )
