"""Engines of the store that tests hand in: they note the blocks that are done, and may stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from retro_lab.store.engine import Work
from retro_lab.store.stage import JSON


class CountingEngine:
    """Does blocks in this process, one after the other.

    Args:
        most: blocks that it does; the next one ends the build as Ctrl-C would. None does all.

    Attributes:
        done: bounds of the blocks that were done.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.done: list[tuple[int, int]] = []

    @property
    def items(self) -> int:
        """Items of all blocks that were done."""
        return sum(stop - start for start, stop in self.done)

    def run(self, work: Work, blocks: Sequence[tuple[int, int]]) -> Iterator[JSON]:
        for start, stop in blocks:
            if len(self.done) == self.most:
                raise KeyboardInterrupt
            marker = work(start, stop)
            self.done.append((start, stop))
            yield marker
