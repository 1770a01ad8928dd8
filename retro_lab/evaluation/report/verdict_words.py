"""Sentences that go with a verdict: near-copies, pointer, compressors, seeds."""

from __future__ import annotations

from collections.abc import Mapping

from retro_lab.store.progress import counted

from ..measure.conditions import WITHOUT_POINTER, label
from ..measure.leakage import COPY_ALPHA, UNFILTERED, Difference, Leakage

COPIED_SHARE = 0.01  # of the bytes; up to this share near-copies are not mentioned
COMPRESSORS = {"xz": "xz", "ngram": "a byte n-gram"}
WITH_ARTICLE = {
    "plain": "the plain model",
    "baseline": "the baseline",
    "off": "the backbone",
    "random": "random neighbours",
}


def copies_in_words(leakage: Leakage) -> list[str]:
    """A sentence on the near-copies of database text, and on the share of the saving they hold."""
    copies = leakage.copies
    if copies is None or not leakage.curves:
        return []
    total = next(iter(leakage.curves.values()))[-1].bytes
    share = copies.bytes / max(1, total)
    if share <= COPIED_SHARE:
        return []
    where = counted(copies.documents, "documents")
    if copies.documents > 3:
        where += f", {copies.chunks_in_three:,} of them in three"
    found = (
        f"{copies.chunks:,} chunks ({100 * share:.1f} % of the bytes; in {where}) are copies "
        f"almost whole of text in the database: r(C) > {COPY_ALPHA:g}."
    )
    if copies.share_of_saving is None or copies.saved_over is None:
        return [f"NOTE: {found}"]
    saved = f"{100 * copies.share_of_saving:.0f} % of what RETRO[ON] saves over"
    return [f"NEAR-COPIES hold {saved} {WITH_ARTICLE[copies.saved_over]}: {found}"]


def pointer_in_words(leakage: Leakage) -> list[str]:
    """A sentence on the gain with the pointer read-out switched off, if measured."""
    left = leakage.difference(WITHOUT_POINTER, "plain", UNFILTERED)
    whole = leakage.difference("on", "plain", UNFILTERED)
    if left is None or whole is None or left.delta_bpb is None or whole.delta_bpb is None:
        return []
    without, on = (leakage.curves[name][-1].bpb for name in (WITHOUT_POINTER, "on"))
    sentence = (
        f"With the pointer read-out switched off at scoring {label('on')} is at {without:.4f} bits "
        f"per byte instead of {on:.4f}: {left.delta_bpb:+.4f} against the plain model instead of "
        f"{whole.delta_bpb:+.4f}."
    )
    if whole.delta_bpb >= 0:
        return [sentence]
    share = 100 * (1 - left.delta_bpb / whole.delta_bpb)
    part = "All" if share >= 99.5 else f"{max(0.0, share):.0f} %"
    return [f"{sentence} {part} of the gain is the pointer's work."]


def compressors_in_words(leakage: Leakage, compressors: Mapping[str, float] | None) -> list[str]:
    """A sentence that compares RETRO[ON] with compressors of the same text."""
    if not compressors or "on" not in leakage.curves:
        return []
    on = leakage.curves["on"][-1].bpb
    if on is None:
        return []
    figures = " and ".join(f"{COMPRESSORS[n]} {bpb:.3f}" for n, bpb in compressors.items())
    read = f"Having read the same training text, {figures} bits per byte ({label('on')} {on:.3f})"
    if min(compressors.values()) > on:
        return [f"{read}: the model knows more of this text than a compressor does."]
    return [
        f"{read}: a model this small knows less of this text than a compressor, so its figures "
        "show how retrieval is used, not what it is worth beside a good model."
    ]


def seeds_in_words(documents: int) -> str:
    """A sentence on the one seed behind a run's figures, and how to run more."""
    read = counted(documents, "documents")
    return (
        f"Behind this verdict: 1 seed, {read}. Intervals are over documents; "
        "seed=1,2,3 with -m, then `report`, say how much training again changes."
    )


def support_in_words(
    leakage: Leakage, documents: int, compressors: Mapping[str, float] | None
) -> str:
    """A line on what a verdict rests on: seeds and documents, and whether a compressor does better.

    Args:
        documents: behind the intervals; 0 if unknown.
    """
    seeds = "Bits per byte; 1 seed" + (f", {counted(documents, 'documents')}" if documents else "")
    on = leakage.curves["on"][-1].bpb if "on" in leakage.curves else None
    if not compressors or on is None:
        return seeds
    best = min(compressors, key=compressors.__getitem__)
    better = "is better" if compressors[best] <= on else "is worse"
    return f"{seeds}; {COMPRESSORS[best]} {better} ({compressors[best]:.3f})"


def interval_in_words(difference: Difference) -> str:
    """`interval -0.0402 to -0.0221, 39 documents`."""
    documents = counted(difference.documents, "documents")
    if difference.low is None or difference.high is None:
        return f"no interval, {documents}"
    return f"interval {difference.low:+.4f} to {difference.high:+.4f}, {documents}"
