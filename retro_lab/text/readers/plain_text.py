"""Corpus `text`: a folder of text files, one document each."""

from __future__ import annotations

from collections.abc import Iterator

from retro_lab.config.schema import OnError, TextCorpusConfig

from .base import Document, Malformed, Unreadable, decode_utf8, unreadable
from .files import SourceFile, digests, open_text, source_files
from .formats import DECODING_ERRORS


class TextReader:
    """One document a UTF-8 file, possibly compressed; its id is its path in the folder."""

    def __init__(self, config: TextCorpusConfig) -> None:
        self.files = source_files(config, [config.pattern])

    @property
    def fields(self) -> dict[str, str]:
        return {}

    def input_digest(self) -> dict[str, str]:
        return digests(self.files.read)

    def documents(self, malformed: Malformed) -> Iterator[Document]:
        for file in self.files.read:
            try:
                text = decode_utf8(self._data(file))
            except Unreadable as error:
                if malformed.on_error is OnError.stop:
                    raise
                malformed.skip(error.place, error.problem)
                continue
            except ValueError as error:
                malformed.report(file.name, str(error), "convert the file to UTF-8")
                continue
            yield Document(file.name, text, file.name, file.split)

    @staticmethod
    def _data(file: SourceFile) -> bytes:
        with open_text(file) as stream:
            try:
                return stream.read()
            except DECODING_ERRORS as error:
                unreadable(file.name, error)
