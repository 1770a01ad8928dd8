"""Corpus `wikitext103`: the raw files of WikiText-103 or -2, cut into articles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from retro_lab.config.errors import UserError
from retro_lab.config.schema import WikitextCorpusConfig

from .base import Document, Malformed, MalformedRecord, decode_utf8
from .files import FileList, SourceFile, lines, source_files
from .left_out import left_out
from .records import FileReader

# " = Title = "; headings of sections have more signs: " = = Section = = ".
_TITLE = re.compile(rb" = (?!= )([^\r\n]+?)(?<! =) = \r?\n?")
_SPLITS = {"train": "train", "valid": "validation", "test": "test"}


class WikitextReader(FileReader):
    """One document an article, with id `<file name>:<line> <title>`.

    An article begins at a title line between blank lines (a formula has none around it) and extends
    to the next title, so a file's documents hold all of its text.
    """

    def __init__(self, config: WikitextCorpusConfig) -> None:
        folder = Path(config.path).expanduser()
        given = _given_splits(config, folder) if folder.is_dir() else source_files(config, [])
        super().__init__(given)

    def documents(self, malformed: Malformed) -> Iterator[Document]:
        for file in self.files.read:
            for number, title, data in _articles(file):
                place = f"{file.name}, line {number}"
                try:
                    text, heading = _decode(data), _decode(title)
                except MalformedRecord as error:
                    malformed.report(place, error.problem, "convert the file to UTF-8")
                    continue
                yield Document(f"{file.name}:{number} {heading}".rstrip(), text, place, file.split)


def _given_splits(config: WikitextCorpusConfig, folder: Path) -> FileList:
    """wiki.train.*, wiki.valid.* and wiki.test.* of a folder."""
    if config.validation_path is not None or config.test_path is not None:
        raise UserError(
            f"corpus.path={config.path} is a folder, whose wiki.valid.* and wiki.test.* are the "
            "splits, but corpus.validation_path or corpus.test_path is set too",
            fix="set corpus.path to the training file, or leave the other two out",
        )
    matching = [path.name for path in folder.glob("wiki.*")]
    files = FileList([], left_out(matching, folder))
    for name, split in _SPLITS.items():
        found = sorted(folder.glob(f"wiki.{name}.*"))
        found = [path for path in found if path.name not in files.left_out]
        if len(found) != 1:
            held = ", ".join(path.name for path in found) or "none"
            raise UserError(
                f"corpus.path={config.path}: expected one file wiki.{name}.* in the folder, "
                f"found {held}",
                fix="name the files: corpus.path=... corpus.validation_path=... "
                "corpus.test_path=...",
            )
        files.read.append(SourceFile(found[0].name, found[0], split))
    return files


def _articles(file: SourceFile) -> Iterator[tuple[int, bytes, bytes]]:
    """(first line number, title, text) of each article; the title may be b"" at the start."""
    start, title, held = 1, b"", []
    before_blank = True
    pending: tuple[int, bytes, bytes] | None = None  # a title line that awaits its next line
    for number, line in enumerate(lines(file), 1):
        blank = line.isspace()
        if pending is not None:
            if blank:
                if b"".join(held).strip():
                    yield start, title, b"".join(held)
                    held = []
                start, title = pending[:2]
            held.append(pending[2])
            pending = None
        match = _TITLE.fullmatch(line) if before_blank else None
        if match:
            pending = (number, match[1], line)
        else:
            held.append(line)
        before_blank = blank
    if pending is not None:
        held.append(pending[2])
    if held:
        yield start, title, b"".join(held)


def _decode(data: bytes) -> str:
    try:
        return decode_utf8(data)
    except ValueError as error:
        raise MalformedRecord(str(error)) from error
