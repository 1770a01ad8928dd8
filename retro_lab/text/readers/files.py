"""Input files by path, folder or glob: their list and byte streams."""

from __future__ import annotations

import difflib
import glob
import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from retro_lab.config.errors import UserError
from retro_lab.config.schema import FileCorpusConfig

from .base import FileList, SourceFile, Unreadable, unreadable
from .formats import DECODING_ERRORS, HEAD_BYTES, compression, decompressed, other_format
from .left_out import COMPRESSED, left_out, uncompressed

_READERS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".txt": "text",
    ".md": "text",
}  # corpus= that reads a folder's files with this suffix
_BUFFER_BYTES = 2**16  # the most text lost at the cut of a truncated file


def source_files(config: FileCorpusConfig, patterns: Sequence[str]) -> FileList:
    """The files of `path`, then of `validation_path` and `test_path`.

    With one of the latter two given, the documents of `path` are dealt to the remaining splits. In
    a folder or glob, files that are no text of the corpus are left out; a file named explicitly is
    always read.

    Args:
        config: the corpus.
        patterns: relative globs that select the files of a folder.

    Raises:
        UserError: names the key whose path has no files.
    """
    given = {"validation": config.validation_path, "test": config.test_path}
    given = {split: path for split, path in given.items() if path is not None}
    remaining = "train" if len(given) == 2 else None
    files = _expand("corpus.path", config.path, patterns, remaining, "")
    for split, path in given.items():
        more = _expand(f"corpus.{split}_path", path, patterns, split, f"{split}/")
        files = FileList(files.read + more.read, files.left_out | more.left_out)
    _refuse_repeats(files.read)
    return files


def with_suffixes(*suffixes: str) -> list[str]:
    """Globs of a folder's files with one of these suffixes, plain or compressed."""
    return [f"**/*.{suffix}{packed}" for suffix in suffixes for packed in ("", *COMPRESSED)]


def _refuse_repeats(files: Sequence[SourceFile]) -> None:
    """Refuses a file with a duplicate or compressed copy, which would be in two splits."""
    seen: dict[object, SourceFile] = {}
    for file in files:
        path = file.path.resolve()
        for key in (file.name, path, uncompressed(path)):
            other = seen.setdefault(key, file)
            if other is not file:
                raise UserError(
                    f"{other.path} and {file.path} are one file, but for compression, or share "
                    f"the name {file.name}",
                    fix="let corpus.path, corpus.validation_path and corpus.test_path name "
                    "different files",
                )


def _expand(
    key: str, value: str, patterns: Sequence[str], split: str | None, prefix: str
) -> FileList:
    path = Path(value).expanduser()
    if path.is_file():
        return FileList([SourceFile(prefix + path.name, path, split)], {})
    if path.is_dir():
        root = path
        found = {file for pattern in patterns for file in path.glob(pattern)}
    else:
        root, patterns = _fixed_part(path), [value]
        found = {Path(file) for file in glob.glob(str(path), recursive=True)}  # noqa: PTH207
    files = sorted((file.relative_to(root).as_posix(), file) for file in found if file.is_file())
    without = left_out((name for name, _ in files), root, patterns)
    read = [
        SourceFile(prefix + _printable(name), file, split)
        for name, file in files
        if name not in without
    ]
    if not read:
        raise _no_files(key, value, path, patterns, without)
    return FileList(read, {prefix + _printable(name): why for name, why in without.items()})


def _printable(name: str) -> str:
    """The name with invalid UTF-8, which some file systems allow, escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _fixed_part(pattern: Path) -> Path:
    """The folder of a glob before its first wildcard."""
    parts = pattern.parts
    wild = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return Path(*parts[:wild])


def _no_files(
    key: str, value: str, path: Path, patterns: Sequence[str], without: Mapping[str, str]
) -> UserError:
    if without:
        name, reason = next(iter(without.items()))
        return UserError(
            f"{key}={value}: all {len(without)} files found are left out, the first: "
            f"{_printable(name)} ({reason})",
            fix=f"set {key} to the files themselves, or to a folder of other files",
        )
    if path.is_dir():
        return _other_files(key, value, path, patterns)
    if glob.has_magic(value):
        return UserError(f"{key}={value}: no file matches", fix=f"check the pattern in {key}")
    return UserError(
        f"{key}={value}: no such file or folder (looked in {Path.cwd()})",
        fix=f"{_near(path)}set {key} to a file, a folder or a glob",
    )


def _other_files(key: str, value: str, folder: Path, patterns: Sequence[str]) -> UserError:
    """The error for a folder without files of a corpus; names the reader of those it holds."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    suffixes = Counter("".join(file.suffixes[-2:]) for file in files)
    held = ", ".join(f"{n} {suffix or 'without suffix'}" for suffix, n in suffixes.most_common(5))
    plain = Counter(uncompressed(file).suffix for file in files).most_common()
    taken = next((suffix for suffix, _ in plain if suffix in _READERS), None)
    other = "" if taken is None else f"corpus={_READERS[taken]} reads {taken} files. Or "
    return UserError(
        f"{key}={value}: the folder has no files like {' or '.join(patterns)}; "
        f"it holds {held or 'no files'}",
        fix=f"{other}set {key} to a file, or to a glob in quotes such as '{value}/*'",
    )


def _near(path: Path) -> str:
    """A file or folder beside the path with a name like it, as a question; empty if none."""
    try:
        names = [other.name for other in path.parent.iterdir()]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {path.with_name(near[0])}? Or " if near else ""


@contextmanager
def open_raw(file: SourceFile) -> Iterator[io.BufferedReader]:
    """Opens the file's raw bytes; a system error becomes a UserError that names the file."""
    try:
        with file.path.open("rb") as raw:
            yield raw
    except OSError as error:
        unreadable(file.name, error)


@contextmanager
def open_text(file: SourceFile) -> Iterator[io.BufferedReader]:
    """Opens the file's bytes, decompressed according to its content.

    Raises:
        Unreadable: the file can't be opened, is not text, or has a compression's suffix without
            being compressed.
    """
    with open_raw(file) as raw:
        head = raw.peek(HEAD_BYTES)
        codec, suffix = compression(head), PurePosixPath(file.name).suffix
        if (other := other_format(head)) is not None:
            raise Unreadable(file.name, f"is {other.name}, expected text", other.fix)
        if head and codec is None and suffix in COMPRESSED:
            problem = f"is not compressed, although its name ends in {suffix}"
            raise Unreadable(file.name, problem, "rename it, or copy it again")
        stream = decompressed(raw, codec) if codec else raw
        yield io.BufferedReader(stream, _BUFFER_BYTES)


def lines(file: SourceFile) -> Iterator[bytes]:
    r"""The file's lines, each with its b"\n", decompressed, without a byte order mark.

    Raises:
        Unreadable: as `open_text`, or the file is truncated; the lines before the cut, up to its
            last 64 KiB, were yielded.
    """
    with open_text(file) as stream:
        number = 0
        try:
            while line := stream.readline():
                yield line if number else line.removeprefix(b"\xef\xbb\xbf")
                number += 1
        except DECODING_ERRORS as error:
            unreadable(f"{file.name}, after line {number}" if number else file.name, error)


def json_objects(
    rows: Iterable[bytes], name: str, fix: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a JSON lines file, each with its line number; blank lines are skipped.

    Args:
        rows: lines of the file.
        name: the file's name, for messages.
        fix: advice about a line that is no object.

    Raises:
        UserError: a line is not a JSON object.
    """
    for number, row in enumerate(rows, 1):
        if row.isspace():
            continue
        place = f"{name}, line {number}"
        try:
            record = orjson.loads(row)
        except orjson.JSONDecodeError as error:
            problem = f"not valid JSON: {error.msg} at column {error.colno}"
            raise UserError(f"{place}: {problem}", fix=fix) from error
        if not isinstance(record, dict):
            raise UserError(f"{place}: not a JSON object", fix=fix)
        yield number, record
