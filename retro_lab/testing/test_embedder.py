"""The contract of the embedder that `--embedder=module:Class` names."""

from __future__ import annotations

from .contracts import EmbedderContract


class TestEmbedder(EmbedderContract):
    """The user's own."""
