"""File formats by their first bytes: compressed, or not text."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from typing import IO, Any, NamedTuple

HEAD_BYTES = 512
DECODING_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""Exceptions of streams for a truncated or damaged file."""


class Format(NamedTuple):
    """A format other than text.

    Attributes:
        name: its usual name.
        fix: what a user can do with such a file.
    """

    name: str
    fix: str


_UNPACK = "unpack it, and set corpus.path to the files inside"
_UTF8 = "convert it to UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW"
_OTHER = [
    (b"PAR1", 0, Format("a Parquet file", "corpus=parquet")),
    (b"ARROW1", 0, Format("an Arrow file", "corpus=hf, with a folder that `datasets` saved")),
    (b"PK\x03\x04", 0, Format("a zip archive", _UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", 0, Format("a 7z archive", _UNPACK)),
    (b"ustar", 257, Format("a tar archive", _UNPACK)),
    (b"\x04\x22\x4d\x18", 0, Format("an lz4 file", "decompress it: lz4 -d FILE")),
    (b"%PDF-", 0, Format("a PDF", "extract its text first")),
    (b"SQLite format 3\0", 0, Format("an SQLite database", "export its text as JSON lines")),
    (b"\xff\xfe", 0, Format("UTF-16 text", _UTF8)),
    (b"\xfe\xff", 0, Format("UTF-16 text", _UTF8)),
]


def other_format(head: bytes) -> Format | None:
    """The format of a file that is neither text nor compressed; None if unrecognised."""
    for magic, place, found in _OTHER:
        if head[place : place + len(magic)] == magic:
            return found
    return None


def compression(head: bytes) -> str | None:
    """gzip, zstd, xz or bzip2; None for anything else."""
    # A zstd file may begin with a skippable frame, as pzstd's and the seekable format's do.
    if head.startswith(b"\x28\xb5\x2f\xfd") or head[1:4] == b"\x2a\x4d\x18":
        return "zstd"
    magic = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"BZh": "bzip2"}
    return next((name for start, name in magic.items() if head.startswith(start)), None)


def decompressed(raw: IO[bytes], codec: str) -> Any:
    """The decompressed stream, across several members or frames.

    Reading raises one of `DECODING_ERRORS` for a truncated or damaged file.
    """
    openers: dict[str, Callable[[], Any]] = {
        "gzip": lambda: gzip.GzipFile(fileobj=raw),
        "xz": lambda: lzma.LZMAFile(raw),  # noqa: SIM115
        "bzip2": lambda: bz2.BZ2File(raw),
        "zstd": lambda: _zstd(raw),
    }
    return openers[codec]()


def _zstd(raw: IO[bytes]) -> Any:
    # Arrow's stream reports a truncated file; zstandard's silently ignores it.
    import pyarrow

    return pyarrow.CompressedInputStream(pyarrow.PythonFile(raw), "zstd")
