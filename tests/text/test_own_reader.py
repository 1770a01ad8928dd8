"""Contract: a reader of the user's own that fails ends a command in one message, which names the
class, the file and line, and the error; HYDRA_FULL_ERROR=1 asks for the traceback instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from retro_lab.config.errors import UserError
from retro_lab.config.parts import with_own_parts
from retro_lab.config.schema import OwnCorpusConfig
from retro_lab.text.readers import Document, Malformed, Reader, build_reader, read_documents

FAULTS: dict[str, Callable[[], Any]] = {
    "missing": lambda: Path("poems.txt").read_text(),
    "folder": lambda: Path().read_text(),
    "value": lambda: int("seven"),
    "bytes": lambda: b"\xff".decode(),
    "key": lambda: {}["text"],
    "user": lambda: Malformed.report,
}


@dataclass
class Settings:
    fault: str = "missing"
    at: str = "documents"


class Faulty(Reader):
    def __init__(self, config: Settings) -> None:
        self.config = config
        self._reach("init")

    def _reach(self, place: str) -> None:
        if self.config.at == place:
            FAULTS[self.config.fault]()

    def documents(self, malformed: Malformed) -> Iterator[Document]:
        yield Document("a", "text", "a")
        self._reach("documents")
        malformed.report("poems.txt, line 2", "is no verse")

    def input_digest(self) -> dict[str, str]:
        self._reach("input_digest")
        return {"a": "0"}


class Unlike(Reader):
    def __init__(self, config: Settings) -> None:
        self.given = ("a", "text") if config.fault == "tuple" else Document("a", b"text", "a")  # type: ignore[arg-type]

    def documents(self, malformed: Malformed) -> Iterator[Any]:
        yield self.given

    def input_digest(self) -> dict[str, str]:
        return {}


def corpus(name: str = "Faulty", **settings: str) -> OwnCorpusConfig:
    return with_own_parts(OwnCorpusConfig(cls=f"{__name__}:{name}", settings=settings))


def use(config: OwnCorpusConfig) -> None:
    """Reads a corpus as the stage `corpus` does: digests first, then documents."""
    build_reader(config).input_digest()
    list(read_documents(config))


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("missing", "FileNotFoundError: [Errno 2] No such file or directory: 'poems.txt'"),
        ("folder", "IsADirectoryError: "),
        ("value", "ValueError: invalid literal"),
        ("bytes", "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff"),
        ("key", "KeyError: 'text'"),
    ],
)
@pytest.mark.parametrize("at", ["init", "documents", "input_digest"])
def test_an_error_is_named_with_class_file_and_line(
    fault: str, error: str, at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(UserError) as caught:
        use(corpus(fault=fault, at=at))
    said = str(caught.value)
    assert f"the reader {__name__}:Faulty failed in {__file__}, line " in said
    assert error in said
    assert "HYDRA_FULL_ERROR=1" in said


def test_a_user_may_ask_for_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match="invalid literal"):
        list(read_documents(corpus(fault="value")))


def test_a_malformed_record_keeps_its_message() -> None:
    with pytest.raises(UserError, match=r"^poems\.txt, line 2: is no verse") as caught:
        list(read_documents(corpus(fault="user")))
    assert "failed in" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "what"), [("tuple", "yielded tuple"), ("bytes", "text is bytes")]
)
def test_what_is_no_document_is_named(fault: str, what: str) -> None:
    with pytest.raises(UserError, match=what):
        list(read_documents(corpus("Unlike", fault=fault)))
