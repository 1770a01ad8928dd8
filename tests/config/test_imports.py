"""Contract: a terminal is told what is being imported after a while of silence; a file is not."""

from __future__ import annotations

import io
import sys
import threading
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from retro_lab.config.imports import announced, being_imported


class Terminal(io.StringIO):
    """A terminal that says when something is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        self.written.set()


def module(name: str, ready: bool) -> ModuleType:
    made = ModuleType(name)
    made.__spec__ = ModuleSpec(name, None)
    made.__spec__._initializing = not ready  # type: ignore[attr-defined]
    return made


def test_a_library_is_named_only_while_it_is_imported() -> None:
    assert being_imported({"torch": module("torch", ready=False)}) == "torch"
    assert being_imported({"torch": module("torch", ready=True)}) is None
    assert being_imported({"json": module("json", ready=False)}) is None


def test_a_terminal_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", module("faiss", ready=False))
    terminal, file = Terminal(), io.StringIO()
    with announced(terminal, silence=0.001), announced(file, silence=0.001):
        assert terminal.written.wait(30)
        terminal.written.clear()
        monkeypatch.setitem(sys.modules, "datasets", module("datasets", ready=False))
        assert terminal.written.wait(30)
    assert terminal.getvalue() == "loading faiss ...\nloading datasets ...\n"
    assert file.getvalue() == ""
