"""The ways a model is scored, the order and names they are shown in, and the pairs compared."""

from __future__ import annotations

from collections.abc import Iterable

LABELS = {
    "baseline": "baseline",
    "off": "RETRO[OFF]",
    "random": "RETRO[random]",
    "shuffled": "RETRO[shuffled]",
    "filtered": "RETRO[filtered]",
    "on": "RETRO[ON]",
    "oracle": "RETRO[oracle]",
}
PAIRS = (
    ("on", "baseline"),
    ("on", "random"),
    ("on", "shuffled"),
    ("on", "off"),
    ("on", "filtered"),
    ("filtered", "baseline"),
    ("off", "baseline"),
    ("random", "baseline"),
    ("oracle", "on"),
)
CONTROLS = {"random": "random neighbours", "shuffled": "neighbours of other documents' chunks"}
"""Conditions whose neighbours say nothing about the text, and words for what is read there."""


def label(condition: str) -> str:
    """Name of a condition for people, in the paper's notation (RETRO, section 4)."""
    return LABELS.get(condition, condition)


def in_order(conditions: Iterable[str]) -> list[str]:
    """Conditions in the order they are shown: the known ones first, others by name."""
    known = list(LABELS)
    return sorted(conditions, key=lambda c: (known.index(c) if c in known else len(known), c))


def pairs_of(conditions: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs (a, b) of the present conditions whose difference bpb_a - bpb_b is reported."""
    present = set(conditions)
    return [(a, b) for a, b in PAIRS if a in present and b in present]
