"""Words for the leakage reference of results.json, for titles of tables and plots."""

from __future__ import annotations

EXACT = "exact_corpus"
EXACT_WITH_DATABASE = "exact_corpus and database"
_WORDS = {
    EXACT: "any training text (exact)",
    EXACT_WITH_DATABASE: "any text of training or database (exact)",
}


def in_words(reference: str | None) -> str:
    """Words that continue "overlap with", such as "own neighbours (bm25)"."""
    if reference is None:
        return "nothing (not measured)"
    return _WORDS.get(reference, reference.replace("_", " "))
