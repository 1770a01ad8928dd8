"""The contract of the reader that `--reader=module:Class` names."""

from __future__ import annotations

from .contracts import ReaderContract


class TestReader(ReaderContract):
    """The user's own."""
