"""Corpus `python`: the running interpreter's standard library, available on every machine."""

from __future__ import annotations

import hashlib
import io
import platform
import sysconfig
import tokenize
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path, PurePosixPath

from retro_lab.config.errors import UserError
from retro_lab.config.schema import PythonCorpusConfig

from .base import Document, Malformed, Reader

# Test suites, installed packages and caches.
_EXCLUDED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
# Its entries are read from the module; its source would be a second copy.
_TOPICS_MODULE = "pydoc_data/topics.py"


class PythonReader(Reader):
    """Module sources with ids `<relative path>`, then pydoc's topics, `topics/<name>`.

    Source: https://docs.python.org/3/library/, of the running version.
    """

    def __init__(self, config: PythonCorpusConfig) -> None:
        self._root = Path(sysconfig.get_paths()["stdlib"])
        self._modules = sorted(_modules(self._root))
        if not self._modules:
            raise UserError(
                f"corpus=python: no module sources in {self._root}",
                fix="use an interpreter that has its sources, or corpus=jsonl corpus.path=...",
            )

    def input_digest(self) -> dict[str, str]:
        """The interpreter's version, and one digest of all names and contents."""
        total = hashlib.sha256()
        for document_id, path in [*self._modules, (_TOPICS_MODULE, self._root / _TOPICS_MODULE)]:
            try:
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError:
                content = "unreadable"
            total.update(f"{document_id}\n{content}\n".encode())
        return {"python": platform.python_version(), "stdlib": total.hexdigest()}

    def documents(self, malformed: Malformed) -> Iterator[Document]:
        for document_id, path in self._modules:
            try:
                data = path.read_bytes()
            except OSError as error:
                malformed.skip(document_id, str(error.strerror))
                continue
            yield Document(document_id, decode_source(data), document_id)
        for name, text in sorted(_topics().items()):
            yield Document(f"topics/{name}", text, f"topics/{name}")


def decode_source(data: bytes) -> str:
    """Text of a Python source in its declared encoding, by default UTF-8; Latin-1 if that fails.

    Source: PEP 263.
    """
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return data.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError):
        return data.decode("latin-1")


def _modules(root: Path) -> Iterator[tuple[str, Path]]:
    for path in root.rglob("*.py"):
        relative = PurePosixPath(path.relative_to(root).as_posix())
        excluded = _EXCLUDED_FOLDERS.intersection(relative.parts[:-1])
        if not excluded and str(relative) != _TOPICS_MODULE and path.is_file():
            yield str(relative), path


def _topics() -> dict[str, str]:
    try:
        return import_module("pydoc_data.topics").topics
    except ImportError:  # some distributions leave pydoc's data out
        return {}
