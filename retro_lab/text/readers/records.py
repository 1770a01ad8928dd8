"""What the readers of text files with several documents each have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from retro_lab.config.schema import FileCorpusConfig, OnError

from .base import Document, Fields, Malformed, Unreadable
from .files import SourceFile, digests, patterns, source_files


class RecordReader(ABC):
    """Reads records with fields for text and id; a file that can't be read counts as a record.

    Attributes:
        suffixes: of the files read from a folder.
    """

    suffixes: tuple[str, ...] = ()

    def __init__(self, config: FileCorpusConfig) -> None:
        self.files = source_files(config, patterns(*self.suffixes))
        self._fields = Fields(config.text_field, config.id_field)

    @property
    def fields(self) -> dict[str, str]:
        return self._fields.settings()

    def input_digest(self) -> dict[str, str]:
        return digests(self.files.read)

    def documents(self, malformed: Malformed) -> Iterator[Document]:
        for file in self.files.read:
            try:
                yield from self._of_file(file, malformed)
            except Unreadable as error:
                if malformed.on_error is OnError.stop:
                    raise
                malformed.skip(error.place, error.problem)

    @abstractmethod
    def _of_file(self, file: SourceFile, malformed: Malformed) -> Iterator[Document]:
        """The documents of one file; malformed records are reported."""
