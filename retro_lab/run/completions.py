"""A run's model as the search service asks it for completions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from retro_lab.config.errors import UserError
from retro_lab.retrieval.service.completions import Asked, Piece, Read

from .finished import FinishedRun
from .writer import Reading, Request, Writer, check_writable


class RunCompleter:
    """Continues text with a run's model and its search; loads the model when it is first asked.

    Args:
        run: its search index is shared with whoever else uses it.

    Raises:
        UserError: the run is not trained, or its model is not one of this project's.
    """

    def __init__(self, run: FinishedRun) -> None:
        FinishedRun.open(run.directory)
        check_writable(run)
        self.run = run
        self.name = run.directory.path.name

    @cached_property
    def writer(self) -> Writer:
        return Writer.of(self.run, Request(self.run.directory.path))

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        """Tokens of each prompt, without the boundary token before it."""
        return [len(self.writer.encode(prompt)) - 1 for prompt in prompts]

    def write(self, asked: Asked, read: Read) -> Iterator[Piece]:
        """Pieces of the continuations of a batch of prompts."""
        request = Request(
            self.run.directory.path,
            tokens=asked.max_tokens,
            temperature=asked.temperature,
            top_p=asked.top_p,
            seed=asked.seed,
        )

        def show(reading: Reading) -> None:
            read(reading.row, reading.end, reading.found)

        for row, text in self.writer.write(asked.prompts, request, show):
            yield Piece(row, text, self.writer.counts[row])


def completer_of(run: FinishedRun) -> RunCompleter | UserError:
    """The run's completer, or why it has none and only its index can be served."""
    try:
        return RunCompleter(run)
    except UserError as error:
        return error
