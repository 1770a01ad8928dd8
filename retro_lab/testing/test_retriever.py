"""The contract of the retriever that `--retriever=module:Class` names."""

from __future__ import annotations

from .contracts import RetrieverContract


class TestRetriever(RetrieverContract):
    """The user's own."""
