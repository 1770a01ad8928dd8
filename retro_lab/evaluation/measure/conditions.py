"""The ways a model is scored, the order and names they are shown in, and the pairs compared."""

from __future__ import annotations

from collections.abc import Iterable

WITHOUT_POINTER = "on_without_pointer"
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
)
REFERENCES = ("plain", "baseline", "off")
"""What a saving is measured against, the first of these that was scored; a *gain* is a saving over
`plain` alone, since the other two have read fewer training tokens than RETRO."""
CONTROLS = {"random": "random neighbours", "shuffled": "neighbours of other documents' chunks"}
"""Conditions whose neighbours say nothing about the text, and words for what is read there."""


def compared_with(conditions: Iterable[str]) -> str | None:
    """What RETRO[ON] is compared with among these conditions; None if nothing of the kind is."""
    present = set(conditions)
    return next((name for name in REFERENCES if name in present), None)


def label(condition: str) -> str:
    """Name of a condition for people, in the paper's notation (RETRO, section 4).

    RETRO[OFF], the model with nothing to read, is its backbone.
    """
    return LABELS.get(condition, condition)


def in_order(conditions: Iterable[str]) -> list[str]:
    """Conditions in the order they are shown: the known ones first, others by name."""
    known = list(LABELS)
    return sorted(conditions, key=lambda c: (known.index(c) if c in known else len(known), c))


def pairs_of(conditions: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs (a, b) of the present conditions whose difference bpb_a - bpb_b is reported."""
    present = set(conditions)
    return [(a, b) for a, b in PAIRS if a in present and b in present]
