"""Corpus `text`: text files, one document each or parted by a separator."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from retro_lab.config.errors import UserError
from retro_lab.config.schema import OnError, TextCorpusConfig

from .base import Document, Malformed, Unreadable, decode_utf8, unreadable
from .files import FileList, SourceFile, open_text, source_files
from .formats import DECODING_ERRORS
from .left_out import left_out
from .records import FileReader

_DEFAULT, _MARKDOWN = TextCorpusConfig.pattern, "**/*.md"
_ESCAPES = {r"\n": "\n", r"\r": "\r", r"\t": "\t", r"\f": "\f", r"\\": "\\"}
_ESCAPE = re.compile(r"\\[nrtf\\]")


class TextReader(FileReader):
    """UTF-8 files, possibly compressed.

    A document is a file, whose path in the folder is its id; or, with a separator, a part of it
    that is not blank, with id `<file name>:<number>`, from 1.
    """

    def __init__(self, config: TextCorpusConfig) -> None:
        super().__init__(_files(config))
        self._separator: str | None = None
        if config.separator is not None:
            self._separator = _ESCAPE.sub(lambda found: _ESCAPES[found[0]], config.separator)

    @property
    def fields(self) -> dict[str, str]:
        return {} if self._separator is None else {"separator": self._separator}

    def documents(self, malformed: Malformed) -> Iterator[Document]:
        whole, parted = None, self._separator is None
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
            whole, parted = text, parted or str(self._separator) in text
            yield from self._parts(file, text)
        if whole is not None and not parted:
            raise self._unparted(whole)

    def _parts(self, file: SourceFile, text: str) -> Iterator[Document]:
        if self._separator is None:
            yield Document(file.name, text, file.name, file.split)
            return
        parts = (part for part in text.split(self._separator) if part.strip())
        for number, part in enumerate(parts, 1):
            place = f"{file.name}, document {number}"
            yield Document(f"{file.name}:{number}", part, place, file.split)

    def _unparted(self, text: str) -> UserError:
        """The error for a separator that is in no file; `text` is the last file's."""
        windows = str(self._separator).replace("\n", "\r\n")
        fix = "corpus.separator=null takes each file as one document"
        if windows in text:
            fix = f"lines end in \\r\\n: corpus.separator={windows!r}"
        where = "the file" if len(self.files.read) == 1 else f"none of {len(self.files.read)} files"
        verb = "is not in" if len(self.files.read) == 1 else "is in"
        return UserError(f"corpus.separator={self._separator!r} {verb} {where}", fix=fix)

    @staticmethod
    def _data(file: SourceFile) -> bytes:
        with open_text(file) as stream:
            try:
                return stream.read()
            except DECODING_ERRORS as error:
                unreadable(file.name, error)


def _files(config: TextCorpusConfig) -> FileList:
    """The files of the pattern; with the default one, a folder without .txt is read for its .md.

    Other Markdown files of the folder are listed as left out.
    """
    folder = Path(config.path).expanduser()
    if config.pattern != _DEFAULT or not folder.is_dir():
        return source_files(config, [config.pattern])
    if not any(folder.glob(_DEFAULT)):
        pattern = _MARKDOWN if any(folder.glob(_MARKDOWN)) else _DEFAULT
        return source_files(config, [pattern])
    files = source_files(config, [_DEFAULT])
    names = sorted(path.relative_to(folder).as_posix() for path in folder.glob(_MARKDOWN))
    reason = f"not like corpus.pattern={_DEFAULT}"
    shown = {name: reason for name in names if name not in left_out(names, folder)}
    return FileList(files.read, files.left_out | shown)
