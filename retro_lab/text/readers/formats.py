"""What a file is by its first bytes, whatever its suffix says: compressed, or no text at all."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from typing import IO, Any, NamedTuple

HEAD_BYTES = 512
DECODING_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What streams raise for a file that is cut short or damaged."""


class Format(NamedTuple):
    """A format that is no text.

    Attributes:
        name: as people call it.
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
    """What a file is that is neither text nor compressed, as far as its first bytes tell."""
    for magic, place, found in _OTHER:
        if head[place : place + len(magic)] == magic:
            return found
    return None


def compression(head: bytes) -> str | None:
    """gzip, zstd, xz or bzip2; None for anything else."""
    # A zstd file may begin with a frame that is skipped, as pzstd and its seekable format do.
    if head.startswith(b"\x28\xb5\x2f\xfd") or head[1:4] == b"\x2a\x4d\x18":
        return "zstd"
    magic = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"BZh": "bzip2"}
    return next((name for start, name in magic.items() if head.startswith(start)), None)


def decompressed(raw: IO[bytes], codec: str) -> Any:
    """The stream of a compressed one, of several members or frames too.

    It raises one of `DECODING_ERRORS` where the file is cut short or damaged.
    """
    openers: dict[str, Callable[[], Any]] = {
        "gzip": lambda: gzip.GzipFile(fileobj=raw),
        "xz": lambda: lzma.LZMAFile(raw),  # noqa: SIM115
        "bzip2": lambda: bz2.BZ2File(raw),
        "zstd": lambda: _zstd(raw),
    }
    return openers[codec]()


def _zstd(raw: IO[bytes]) -> Any:
    # Arrow's stream reports a truncated file, which zstandard's passes over in silence.
    import pyarrow

    return pyarrow.CompressedInputStream(pyarrow.PythonFile(raw), "zstd")
