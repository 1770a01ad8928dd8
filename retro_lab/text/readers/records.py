"""What the readers of files have in common."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from retro_lab.config.schema import FileCorpusConfig, OnError

from .base import Document, Fields, FileList, Malformed, MalformedRecord, Unreadable
from .files import SourceFile, open_raw, source_files


class FileReader:
    """Base of readers of files.

    Args:
        files: the files to read.
    """

    def __init__(self, files: FileList) -> None:
        self.files = files

    @property
    def fields(self) -> Mapping[str, str]:
        return {}

    def input_digest(self) -> dict[str, str]:
        """SHA-256 of each file's bytes, by name."""
        found = {}
        for file in self.files.read:
            with open_raw(file) as raw:
                found[file.name] = hashlib.file_digest(raw, "sha256").hexdigest()
        return found


class Record(NamedTuple):
    """A record of a file.

    Attributes:
        unit: what a message calls it, such as "line".
        number: its number in the file, from 1; it also names a record without an id.
        read: its values by field; raises MalformedRecord.
    """

    unit: str
    number: int
    read: Callable[[], Mapping[str, Any]]


class RecordReader(FileReader, ABC):
    """Reads records with fields for text and id; a file that can't be read counts as a record.

    Attributes:
        globs: of the files read from a folder.
    """

    globs: Sequence[str] = ()

    def __init__(self, config: FileCorpusConfig) -> None:
        super().__init__(source_files(config, self.globs))
        self._fields = Fields(config.text_field, config.id_field)

    @property
    def fields(self) -> Mapping[str, str]:
        return self._fields.settings()

    def documents(self, malformed: Malformed) -> Iterator[Document]:
        for file in self.files.read:
            try:
                yield from self._of_file(file, malformed)
            except Unreadable as error:
                if malformed.on_error is OnError.stop:
                    raise
                malformed.skip(error.place, error.problem)

    def _of_file(self, file: SourceFile, malformed: Malformed) -> Iterator[Document]:
        for unit, number, read in self._records(file):
            place = f"{file.name}, {unit} {number}"
            try:
                default_id = f"{file.name}:{number}"
                document = self._fields.document(read(), default_id, place, file.split)
            except MalformedRecord as error:
                malformed.report(place, error.problem, error.fix)
            else:
                yield document

    @abstractmethod
    def _records(self, file: SourceFile) -> Iterator[Record]:
        """The records of one file."""
