"""Conditions, the ways a model is scored: their names, their order and the pairs compared."""

from __future__ import annotations

from collections.abc import Iterable

WITHOUT_POINTER = "on_without_pointer"
FAMILIES = ("suffix", "topic", "knn")  # kinds of a memory's evidence
LABELS = {
    "baseline": "baseline",
    "plain": "plain",
    "off": "backbone",
    "random": "RETRO[random]",
    "shuffled": "RETRO[shuffled]",
    "filtered": "RETRO[filtered]",
    WITHOUT_POINTER: "RETRO[ON] without pointer",
    "on": "RETRO[ON]",
    "oracle": "RETRO[oracle]",
    "memory": "with memory",
    "memory_random": "memory[random]",
    "memory_suffix": "memory, suffix alone",
    "memory_topic": "memory, topic alone",
    "memory_knn": "memory, kNN alone",
    "memory_without_suffix": "memory without suffix",
    "memory_without_topic": "memory without topic",
    "memory_without_knn": "memory without kNN",
    "plain_memory": "plain with memory",
    "cache": "with cache, no memory",
    "plain_cache": "plain with cache",
    "memory_cache": "with memory and cache",
}
PAIRS = (
    ("on", "plain"),
    ("on", "baseline"),
    ("on", "random"),
    ("on", "shuffled"),
    ("on", "off"),
    ("on", "filtered"),
    ("on", WITHOUT_POINTER),
    (WITHOUT_POINTER, "plain"),
    ("filtered", "plain"),
    ("filtered", "baseline"),
    ("off", "plain"),
    ("off", "baseline"),
    ("random", "plain"),
    ("random", "baseline"),
    ("plain", "baseline"),
    ("oracle", "on"),
    ("memory", "plain"),
    ("memory", "on"),
    ("memory", "baseline"),
    ("memory", "memory_random"),
    ("memory", "plain_memory"),
    ("memory", "plain_cache"),
    ("memory", "cache"),
    ("memory_random", "plain"),
    ("memory_random", "on"),
    ("memory_random", "baseline"),
    ("plain_memory", "plain"),
    ("plain_cache", "plain"),
    ("cache", "on"),
    ("cache", "baseline"),
    ("memory_cache", "cache"),
    ("memory_cache", "memory"),
    *((f"memory_{family}", base) for family in FAMILIES for base in ("on", "baseline")),
    *(("memory", f"memory_{family}") for family in FAMILIES),
    *(("memory", f"memory_without_{family}") for family in FAMILIES),
)
REFERENCES = ("plain", "baseline", "off")
"""Conditions to compare RETRO[ON] with, best first. Only a saving over `plain` is called a gain:
the baseline has read fewer training tokens, and the backbone is RETRO without its neighbours."""
CONTROLS = {"random": "random neighbours", "shuffled": "neighbours of other documents' chunks"}
"""Conditions with neighbours unrelated to the text, and words for these neighbours."""


def reads_memory(condition: str) -> bool:
    """Whether a condition mixes a memory or the own-document cache into a language model."""
    return "memory" in condition or "cache" in condition


def judged(conditions: Iterable[str]) -> str:
    """The condition that the verdict on a memory is about: over the plain model, if there is one.

    A memory over RETRO[ON] also has what RETRO gains or loses.
    """
    present = set(conditions)
    return next((n for n in ("plain_memory", "memory", "plain_cache") if n in present), "cache")


def compared_with(conditions: Iterable[str]) -> str | None:
    """The first of `REFERENCES` among these conditions, or None."""
    present = set(conditions)
    return next((name for name in REFERENCES if name in present), None)


def label(condition: str) -> str:
    """Display name of a condition; RETRO[OFF] of the paper (section 4) is called backbone."""
    return LABELS.get(condition, condition)


def in_order(conditions: Iterable[str]) -> list[str]:
    """Conditions in display order: those of `LABELS` first, then others by name."""
    known = list(LABELS)
    return sorted(conditions, key=lambda c: (known.index(c) if c in known else len(known), c))


def pairs_of(conditions: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs (a, b) among these conditions whose difference bpb_a - bpb_b is reported."""
    present = set(conditions)
    return [(a, b) for a, b in PAIRS if a in present and b in present]
