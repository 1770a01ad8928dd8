"""The tables of a report on many runs, in parts whose figures are comparable.

Each scored split is a part. Older runs without a plain model are compared with the shared baseline,
which read fewer training tokens, and form a part of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..measure.leakage import LEAK_FREE_ALPHA
from ..measure.seeds import CONFIDENCE, Spread, by_settings
from .selection import sorted_groups, sorted_rows
from .sweep import SweepRow, by_split, value_of, varying
from .table import NONE, Table
from .tables import difference_text

_WIDTH = 28  # of a setting's value


@dataclass(frozen=True)
class Part:
    """Rows of one table, with comparable figures.

    Attributes:
        split: the scored split.
        against: the condition that RETRO[ON] is compared with, plain or baseline; empty without
            retrieval.
        rows: in display order.
    """

    split: str
    against: str
    rows: list[SweepRow]

    @property
    def name(self) -> str:
        """`validation split`, `test split, against the baseline`."""
        against = ", against the baseline" if self.against == "baseline" else ""
        return f"{self.split} split{against}"


def parts(rows: Sequence[SweepRow], sort: str | None = None) -> list[Part]:
    """The rows by split and by the condition that they are compared with.

    Args:
        sort: key to sort rows by; see `selection`.
    """
    found = []
    for split, scored in by_split(rows).items():
        kinds = sorted({row.against for row in scored if row.difference}, reverse=True)
        for against in kinds or [""]:
            # Runs without retrieval have no comparison; they go into the first part.
            alone = kinds[:1] in ([], [against])
            own = [r for r in scored if (r.against == against if r.difference else alone)]
            found.append(Part(split, against, sorted_rows(own, sort)))
    return found


def run_table(part: Part) -> Table:
    """A table with a row for each run."""
    names = varying(part.rows)
    gains, memory = _gain_heads(part), _memory_heads(part)
    rows = [
        [
            *_name_cells(row, names),
            f"{row.score.bpb:.4f}",
            *[NONE if row.memory is None else f"{row.memory.bpb:.4f}"][: len(memory)],
            *[difference_text(row.difference), difference_text(row.leak_free)][: len(gains)],
            *[difference_text(row.saving)][: len(memory)],
            *_cost(row.flops, row.seconds),
        ]
        for row in part.rows
    ]
    return _table(
        f"{part.name}: {_count(len(part.rows), 'run')}",
        names,
        ["k", "bits/\nbyte", *memory[:1], *gains, *memory[1:], "FLOPs", "time"],
        rows,
        optional=2,
    )


def group_table(part: Part, sort: str | None = None) -> Table:
    """A table with a row for each group of seeds."""
    names = [name for name in varying(part.rows) if name != "seed"]
    gains, memory = _gain_heads(part), _memory_heads(part)
    rows = []
    groups = by_settings(part.rows)
    for group in sorted_groups(groups, sort):
        *told, k = _name_cells(group.rows[0], names)
        gain = [_text(group.gain, "+.4f"), _text(group.leak_free, "+.4f")][: len(gains)]
        read = [_text(group.memory, ".4f"), _text(group.saving, "+.4f")][: len(memory)]
        figures = [_text(group.bpb, ".4f"), *read[:1], *gain, *read[1:]]
        figures.append(f"{group.best.score.bpb:.4f}")
        rows.append([*told, k, str(len(group.rows)), *figures, *_cost(group.flops, group.seconds)])
    heads = ["k", "seeds", "bits/\nbyte", *memory[:1], *gains, *memory[1:]]
    heads += ["best\nseed", "FLOPs", "time"]
    title = f"{part.name}: {_count(len(groups), 'setting')}, seeds together"
    return _table(title, names, heads, rows, optional=3)


def part_tables(part: Part, sort: str | None = None) -> list[Table]:
    """A table of the runs and, if some differ only in their seed, a table of the groups."""
    found = [run_table(part)]
    if len(by_settings(part.rows)) < len(part.rows):
        found.append(group_table(part, sort))
    return found


def in_words(part: Part, brackets: bool = True) -> str:
    """Notes on the intervals of a part, and on choosing a run by its figures.

    Args:
        brackets: whether the table shows paired intervals, as `run_table` does.
    """
    groups = by_settings(part.rows)
    single = sum(len(group.rows) == 1 for group in groups)
    words = []
    if brackets and any(row.difference and row.difference.low is not None for row in part.rows):
        words.append("In brackets: the paired interval over documents.")
    if part.against == "baseline":
        words.append("The baseline has read fewer training tokens than RETRO.")
    if single == len(groups):
        words.append("One seed each: there is no interval over seeds, train others with seed=2.")
    else:
        words.append(f"± is the {100 * CONFIDENCE:g} % t interval over seeds")
        words[-1] += f"; {single} of {len(groups)} have one seed, and so no interval." * bool(
            single
        )
        words[-1] = words[-1].removesuffix(".") + "."
    words.append(f"A choice made on the {part.split} split is no estimate of it.")
    return " ".join(words)


def _table(
    title: str,
    names: Sequence[str],
    figures: Sequence[str],
    rows: Sequence[Sequence[str]],
    optional: int,
) -> Table:
    heads = [name if "." in name else name.replace("_", " ") for name in names]
    return Table([*heads, *figures], rows, title, names=len(names), optional=optional)


def _name_cells(row: SweepRow, names: Sequence[str]) -> list[str]:
    """Settings without the middle of a long text; the report's own words are whole."""
    values = {name: short(value_of(row, name)) for name in names}
    cells = (_cut(text) if name in row.others else text for name, text in values.items())
    return [*cells, str(row.k or NONE)]


def short(value: Any) -> str:
    """Display text of a setting's value: floats to four digits."""
    if value is None or value in ([], {}):
        return ""
    if isinstance(value, list):
        return ",".join(map(short, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cut(text: str) -> str:
    if len(text) <= _WIDTH:
        return text
    return f"{text[: _WIDTH // 2]}…{text[len(text) - _WIDTH // 2 + 1 :]}"


def _gain_heads(part: Part) -> list[str]:
    if not part.against:
        return []
    clean = any(row.leak_free for row in part.rows)
    over = ["all chunks", f"r(C) ≤ {LEAK_FREE_ALPHA:g}"][: 1 + clean]
    return [f"on - {part.against}\n{chunks}" for chunks in over]


def _memory_heads(part: Part) -> list[str]:
    """Headings of the figures with a memory; none if no run of the part reads one."""
    reads = any(row.memory for row in part.rows)
    return ["with\nmemory", "memory - without\nall chunks"] if reads else []


def _cost(flops: float | None, seconds: float | None) -> list[str]:
    return [NONE if flops is None else f"{flops:.2g}", NONE if seconds is None else _time(seconds)]


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _text(found: Spread | None, form: str) -> str:
    """`2.1908 ± 0.0123`; with one seed the value alone."""
    if found is None:
        return NONE
    if found.high is None:
        return format(found.mean, form)
    return f"{found.mean:{form}} ± {found.high - found.mean:.4f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
