"""What a fault campaign found, in four numbers a row."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from textwrap import indent

TRACEBACK = "Traceback (most recent call last)"


@dataclass
class Counts:
    """Trials of one kind of fault.

    Attributes:
        name: of the row.
        tried: faults that really struck.
        lost: what was done before is gone, or the same command does not come to the same end.
        wrong: figures differ, and nothing says so.
        tracebacks: of them, how many users would have seen one.
        skipped: why nothing or less was tried; empty if all was.
        hit: how often each phase, file or place was struck.
        must_hit: of them, those that the trials are worth nothing without.
        findings: one sentence for each thing that should not have happened, with its traceback.
    """

    name: str
    tried: int = 0
    lost: int = 0
    wrong: int = 0
    tracebacks: int = 0
    skipped: str = ""
    hit: Counter[str] = field(default_factory=Counter)
    must_hit: frozenset[str] = frozenset()
    findings: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing was found, where everything was struck that there was to strike."""
        return not (self.findings or self.missed)

    @property
    def missed(self) -> list[str]:
        """What should have been struck and was not, unless a reason says why."""
        return [] if self.skipped else sorted(self.must_hit - set(self.hit))

    def found(self, kind: str, sentence: str) -> None:
        """Counts a failure: `lost`, `wrong` or `tracebacks`."""
        setattr(self, kind, getattr(self, kind) + 1)
        self.findings.append(f"{kind}: {sentence}")


_MARK = "@trial "
HEAD = ("fault", "tried", "lost", "silently wrong", "tracebacks")


def table(rows: list[Counts]) -> str:
    """The rows as Markdown."""
    lines = [HEAD, ("---", *["---:"] * 4)]
    lines += [(r.name, f"{r.tried:,}", *map(str, (r.lost, r.wrong, r.tracebacks))) for r in rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = [f"{row.name}: {row.skipped}" for row in rows if row.skipped]
    return "\n".join([text, *notes])


def tell(kind: str, outcome: str, sentence: str) -> None:
    """Says, in a child that does many trials, what came of one; see `count_told`."""
    print("\n" + _MARK + json.dumps([kind, outcome, sentence]))


def count_told(said: str, good: tuple[str, ...], counts: Counts) -> int:
    """Counts what a child told, and returns how many trials that were.

    Args:
        said: the child's output.
        good: outcomes that are no failures.
        counts: gets the kind and the good outcomes as struck, the others as findings.
    """
    told = [json.loads(line[len(_MARK) :]) for line in said.split("\n") if line.startswith(_MARK)]
    for kind, outcome, sentence in told:
        counts.tried += 1
        counts.hit[kind] += 1
        if outcome in good:
            counts.hit[outcome] += 1
        else:
            counts.found(outcome, sentence)
    return len(told)


def ending(said: str) -> str:
    """What a child said at its end: the whole traceback if there is one, else the last line."""
    start = said.find(TRACEBACK)
    return last_line(said) if start < 0 else "\n" + indent(said[start:].rstrip(), "    ")


def last_line(said: str) -> str:
    """The last line of a traceback or message, short enough for a list."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return (lines[-1] if lines else "nothing said")[:300]
