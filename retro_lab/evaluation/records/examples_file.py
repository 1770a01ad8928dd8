"""examples.json: a few scored chunks with the neighbours read for them, as the run's page shows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from .record_file import EVALUATE_AGAIN, load_record, write_json

SCHEMA_VERSION = 1
EXAMPLES_FILE = "examples.json"


@dataclass(frozen=True)
class Piece:
    """Text that lies, or does not lie, in a run shared with the text beside it."""

    text: str
    shared: bool


@dataclass(frozen=True)
class ExampleNeighbour:
    """A neighbour that was read.

    Attributes:
        document: id of its document.
        index: number of its chunk within the document, from 0.
        score: retrieval score.
        text: of the chunk.
        continuation: the text that follows it.
    """

    document: str
    index: int
    score: float
    text: list[Piece]
    continuation: list[Piece]


@dataclass(frozen=True)
class Example:
    """A scored chunk.

    Attributes:
        which: why it was chosen, such as `greatest gain`.
        document: id of its document.
        index: number of the chunk within the document, from 0.
        gain: nats that reading the neighbours saved on it.
        over: the condition that the gain is measured over.
        text: of the chunk.
        neighbours: best first.
    """

    which: str
    document: str
    index: int
    gain: float
    over: str
    text: list[Piece]
    neighbours: list[ExampleNeighbour]


@dataclass(frozen=True)
class Examples:
    """The chosen chunks of one evaluation."""

    examples: list[Example]

    def save(self, folder: Path) -> None:
        """Writes examples.json atomically."""
        write_json({"schema_version": SCHEMA_VERSION, **asdict(self)}, folder / EXAMPLES_FILE)

    @classmethod
    def load(cls, folder: Path) -> Examples:
        """Reads examples.json.

        Raises:
            UserError: the file is missing, damaged or of another schema version.
        """
        return load_record(cls, folder / EXAMPLES_FILE, SCHEMA_VERSION, EVALUATE_AGAIN)
