"""How a leakage reference, as results.json has it, is called in titles of tables and plots."""

from __future__ import annotations

EXACT = "exact_corpus"


def in_words(reference: str | None) -> str:
    """Words for "overlap with ...": any training text (exact), or own neighbours (bm25)."""
    if reference is None:
        return "nothing (not measured)"
    return "any training text (exact)" if reference == EXACT else reference.replace("_", " ")
