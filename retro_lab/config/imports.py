"""Announces an import that takes long, so that a terminal is not silent for seconds."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from .wrapping import is_terminal

SILENCE = 2.0
"""Seconds after which a command says what it is importing."""

_SLOW = (
    "transformers", "sentence_transformers", "datasets", "pytorch_lightning", "lightning", "faiss",
    "matplotlib", "wandb", "torch",
)  # fmt: skip


@contextmanager
def announced(stream: TextIO | None, silence: float = SILENCE) -> Iterator[None]:
    """A context in which a slow library is named on a terminal, once each, while it is imported.

    Args:
        stream: nothing is printed if it is no terminal.
        silence: seconds until the first look, and between two looks.
    """
    if stream is None or not is_terminal(stream):
        yield
        return
    ended, told = threading.Event(), set[str]()

    def watch() -> None:
        while not ended.wait(silence):
            name = being_imported(sys.modules)
            if name is not None and name not in told:
                told.add(name)
                print(f"loading {name} ...", file=stream, flush=True)

    threading.Thread(target=watch, name="imports", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def being_imported(modules: Mapping[str, Any]) -> str | None:
    """The slow library whose import has begun and not ended; None if there is none.

    Args:
        modules: `sys.modules`, where a module stands from the beginning of its import.
    """
    for name in _SLOW:
        spec = getattr(modules.get(name), "__spec__", None)
        if getattr(spec, "_initializing", False):  # set by importlib while a module runs
            return name
    return None
