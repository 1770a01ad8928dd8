"""A reader of the user's own, whose mistakes end a command in a message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from retro_lab.config.errors import UserError
from retro_lab.config.parts import own_code, part_class, part_settings
from retro_lab.config.schema import OwnCorpusConfig

from .base import Document, FileList, Malformed, Reader


class OwnReader(Reader):
    """Calls the user's reader; each method raises UserError where that reader fails.

    Raises:
        UserError: its class can't be imported, refuses its settings, or fails.
    """

    def __init__(self, config: OwnCorpusConfig) -> None:
        self._part = config
        kind, settings = part_class(config), part_settings(config)
        with own_code(config):
            self._reader: Reader = kind(settings)

    @property
    def files(self) -> FileList:
        with own_code(self._part):
            return self._reader.files

    @property
    def fields(self) -> Mapping[str, str]:
        with own_code(self._part):
            return self._reader.fields

    def documents(self, malformed: Malformed) -> Iterator[Document]:
        with own_code(self._part):
            for given in self._reader.documents(malformed):
                yield self._document(given)

    def input_digest(self) -> dict[str, str]:
        with own_code(self._part):
            return self._reader.input_digest()

    def _document(self, given: Any) -> Document:
        if isinstance(given, Document) and isinstance(given.text, str):
            return given
        what = type(given).__name__
        if isinstance(given, Document):
            what = f"a Document whose text is {type(given.text).__name__}"
        raise UserError(
            f"the reader {self._part.cls} yielded {what}, not a Document with a text",
            fix="yield Document(id, text, place) of retro_lab.text.readers, text as str",
        )
