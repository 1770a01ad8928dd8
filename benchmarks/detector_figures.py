"""Counts, table and figure of `detectors.py`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro_lab.evaluation.measure.leak_detectors import Scores
from retro_lab.evaluation.measure.statistics import Bootstrap, resampled_sums

THRESHOLDS = {
    "exact_run": 0.125,
    "neighbour_run": 0.125,
    "jaccard_13": 0.8,
    "unigram": 0.8,
    "embedding": 0.9,
}
"""Of each detector; none is published for the last two."""
ABOVE = ("exact_run", "neighbour_run")
"""Detectors that alarm above their threshold; the others also at it."""
NAMES = {
    "exact_run": "exact runs, > 8 of 64 tokens",
    "neighbour_run": "r(C) of ten neighbours, > 0.125",
    "jaccard_13": "13-gram Jaccard of documents, ≥ 0.8",
    "unigram": "unigram overlap, ≥ 0.8",
    "embedding": "embedding cosine, ≥ 0.9",
}
FALSE_ALARMS = 0.01  # share of clean chunks, at the second threshold


def counted(
    nothing: Scores, planted: Mapping[str, Scores], clean: NDArray[np.bool_], document: NDArray
) -> dict[str, Any]:
    """Counts of alarms on the same chunks without and with a planted copy.

    Args:
        nothing: [S] scores by detector without a copy.
        planted: the same by edit, with copies of that edit.
        clean: [S] whether a chunk shares next to nothing with the database.
        document: [S].
    """
    found: dict[str, Any] = {
        "chunks": len(clean),
        "documents": len(np.unique(document)),
        "clean_chunks": int(clean.sum()),
        "clean_documents": len(np.unique(document[clean])),
        "detectors": {},
    }
    for name in THRESHOLDS:
        before = nothing[name]
        strict = float(np.quantile(before[clean], 1 - FALSE_ALARMS, method="higher"))
        usual = _alarms(name, before)
        found["detectors"][name] = {
            "alarms_clean": int(usual[clean].sum()),
            "alarms_all": int(usual.sum()),
            "threshold_at_1_percent": strict,
            "edits": {
                edit: {
                    **_paired(usual[clean], _alarms(name, scores[name])[clean], document[clean]),
                    "found_at_1_percent": int((scores[name][clean] > strict).sum()),
                }
                for edit, scores in planted.items()
            },
        }
    return found


def _alarms(name: str, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    threshold = THRESHOLDS[name]
    # Float32 scores may lie a rounding error below a threshold that they equal.
    return scores > threshold if name in ABOVE else scores >= threshold - 1e-6


def _paired(
    before: NDArray[np.bool_], after: NDArray[np.bool_], document: NDArray
) -> dict[str, Any]:
    """Alarms with a copy, with it alone, without it alone; and the interval of their share."""
    _, owner = np.unique(document, return_inverse=True)
    sums = np.stack([np.bincount(owner, after), np.bincount(owner)], axis=1).astype(np.float64)
    drawn = resampled_sums(sums, Bootstrap())
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return {
        "found": int(after.sum()),
        "only_with_copy": int((after & ~before).sum()),
        "only_without": int((before & ~after).sum()),
        "low": float(low),
        "high": float(high),
    }


def show(found: Mapping[str, Any]) -> None:
    """Two Markdown tables of recall: at the usual thresholds, and at one share of false alarms."""
    clean = found["clean_chunks"]
    print(
        f"{found['chunks']} chunks of {found['documents']} documents, of which {clean} of "
        f"{found['clean_documents']} are clean"
    )
    for key, title in (("found", "usual threshold"), ("found_at_1_percent", "1 % false alarms")):
        edits = list(next(iter(found["detectors"].values()))["edits"])
        heads = [label(edit) for edit in edits]
        print(f"\n| {title} | false alarms | of all chunks | {' | '.join(heads)} |")
        print("|---|" + "---:|" * (2 + len(heads)))
        for name, each in found["detectors"].items():
            usual = key == "found"
            alarms = f"{each['alarms_clean'] / clean:.1%}" if usual else ""
            every = f"{each['alarms_all'] / found['chunks']:.0%}" if usual else ""
            strict = f"{NAMES[name].split(',')[0]}, > {each['threshold_at_1_percent']:.3f}"
            cells = [f"{each['edits'][edit][key] / clean:.0%}" for edit in edits]
            head = NAMES[name] if usual else strict
            print(f"| {head} | {alarms} | {every} | {' | '.join(cells)} |")


def label(edit: str) -> str:
    """An edit in a table's head or on an axis."""
    return "reordered" if edit == "reordered" else f"{float(edit):.0%}"


def plot(found: Mapping[str, Any], target: Path) -> None:
    """Recall by edit, a panel for each of the two thresholds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True, layout="constrained")
    titles = ("at the usual threshold", "at 1 % false alarms on clean chunks")
    clean = found["clean_chunks"]
    for panel, key, title in zip(panels, ("found", "found_at_1_percent"), titles, strict=True):
        for number, (name, each) in enumerate(found["detectors"].items()):
            share = [edit[key] / clean for edit in each["edits"].values()]
            places, colour = np.arange(len(share)), f"C{number}"
            style = {"lw": 5, "alpha": 0.4} if number == 0 else {}  # the next one lies upon it
            name = NAMES[name].split(",")[0]
            panel.plot(places[:-1], share[:-1], "o-", color=colour, label=name, **style)
            panel.plot(places[-1:] + 0.12 * (number - 2), share[-1:], "D", color=colour)
            if key == "found":
                panel.axhline(each["alarms_clean"] / clean, color=colour, ls=":", lw=1)
        panel.set_xticks(places, [label(edit) for edit in each["edits"]])
        panel.set_title(f"planted chunks found {title}", fontsize=10)
        panel.set_xlabel("tokens replaced in the copy; lines reordered (diamonds)")
        panel.set_ylim(-0.03, 1.03)
    panels[0].set_ylabel("share of clean chunks; dotted: false alarms")
    panels[1].legend(fontsize=8)
    figure.savefig(target, dpi=130)
