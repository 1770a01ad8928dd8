"""Corpus `text`: a folder of text files, a document each."""

from __future__ import annotations

from collections.abc import Iterator

from retro_lab.config.schema import TextCorpusConfig

from .base import Document, Malformed, decode_utf8
from .files import digests, open_raw, source_files


class TextReader:
    """One document a UTF-8 file; its id is its path relative to the folder."""

    def __init__(self, config: TextCorpusConfig) -> None:
        self.files = source_files(config, [config.pattern])

    @property
    def fields(self) -> dict[str, str]:
        return {}

    def input_digest(self) -> dict[str, str]:
        return digests(self.files.read)

    def documents(self, malformed: Malformed) -> Iterator[Document]:
        for file in self.files.read:
            with open_raw(file) as raw:
                data = raw.read()
            try:
                text = decode_utf8(data)
            except ValueError as error:
                malformed.report(file.name, str(error), "convert the file to UTF-8")
                continue
            yield Document(file.name, text, file.name, file.split)
