"""Tables of the planner: sizes by file and stage, and times."""

from __future__ import annotations

import math

from retro_lab.config.schema import MemoryConfig
from retro_lab.evaluation.report.table import NONE, Table

from .plan import MOST_CHUNKS, Database, PlannedFile, workers_for
from .plan_memory import reading_seconds, sorting_seconds
from .plan_rates import Rates

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def in_bytes(count: float) -> str:
    """Bytes with three digits and a decimal unit, such as 93.2 TB."""
    unit = 0
    while count >= 999.5 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    digits = 0 if unit == 0 or count >= 99.95 else 1 if count >= 9.995 else 2
    return f"{count:.{digits}f} {_UNITS[unit]}"


def in_time(seconds: float) -> str:
    """Seconds in the largest unit that fits, such as 3.2 h or 1,234 days."""
    for name, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:,.1f} {name}"
    return f"{seconds:,.1f} s"


def sizes_table(planned: Database, files: list[PlannedFile], memory: dict[str, int]) -> Table:
    """Bytes on disk of each file, and disk and peak memory of each stage."""

    def row(stage: str, file: str, size: int, held: str) -> list[str]:
        return [stage, file, in_bytes(size), f"{size / planned.chunks:,.1f} B", held]

    rows, totals = [], []
    for stage in dict.fromkeys(file.stage for file in files):
        own = [file for file in files if file.stage == stage]
        totals.append(len(rows))
        rows.append(row(stage, "", sum(file.bytes for file in own), _memory_text(memory[stage])))
        rows += [row("", file.name, file.bytes, "") for file in own]
    totals.append(len(rows))
    rows.append(
        row("all", "", sum(file.bytes for file in files), _memory_text(max(memory.values())))
    )
    return Table(
        ["stage", "file", "on disk", "a chunk", "in memory"],
        rows,
        title=f"{planned.chunks:,} chunks of {planned.chunk_size} tokens, "
        f"{planned.database:,} of them in the database",
        caption="\n".join(_notes(planned, files)),
        names=2,
        ruled=True,
        sums=1,
        strong=totals,
    )


def _memory_text(count: int) -> str:
    return in_bytes(count) if count else "a block"


def _notes(planned: Database, files: list[PlannedFile]) -> list[str]:
    notes = []
    if index := sum(file.bytes for file in files if file.stage == "index"):
        notes.append(f"A search maps the index; it is fast while {in_bytes(index)} stay in memory.")
    if planned.documents == 1 and any(file.stage == "topics" for file in files):
        notes.append("Topics grow with the documents: give database.document_tokens.")
    if planned.chunks > MOST_CHUNKS:
        stores = workers_for(planned.chunks, MOST_CHUNKS)
        notes.append(
            f"Chunk numbers are stored in 32 bits, at most {MOST_CHUNKS:,} chunks a store: "
            f"this corpus takes {stores} stores today."
        )
    return notes


def time_table(planned: Database, rates: Rates, dense: bool, deadline: float | None) -> Table:
    """Time of one worker for each parallel stage, and the workers for the deadline."""
    shared = [("embeddings", "chunks", rates.embed)] if dense else []
    shared.append(("neighbours", "queries", rates.search))
    rows, total = [], 0.0
    for stage, unit, rate in shared:
        seconds = planned.chunks / rate if rate else math.nan
        total += seconds
        told = [f"{_in_rate(rate)}/s", in_time(seconds)] if rate else ["not given", NONE]
        rows.append([stage, f"{planned.chunks:,} {unit}", *told, ""])
    known = not math.isnan(total)
    if known:
        workers = f"{workers_for(total, deadline):,} in {in_time(deadline)}" if deadline else NONE
        rows.append(["both" if dense else "all", "", "", in_time(total), workers])
    return Table(
        ["stage", "work", "rate", "time", "workers"],
        rows,
        title="time of one worker",
        caption=f"{rates.note}; tokenizing and index building aren't counted",
        ruled=True,
        sums=int(known),
        strong=[len(rows) - 1] if known else [],
    )


def memory_table(planned: Database, memory: MemoryConfig) -> Table:
    """Times to build a memory, and to read it for one token."""
    tokens = planned.database * planned.chunk_size
    rows = []
    if "suffix" in memory.experts:
        rows.append(["sorting contexts", in_time(sorting_seconds(planned))])
    if "knn" in memory.experts:
        rows.append(["states", f"a forward pass over {tokens:,} tokens, and indexing them"])
    if "suffix" in memory.experts:
        rows.append(["reading a token", f"{1000 * reading_seconds(planned, memory):.2g} ms"])
    if "knn" in memory.experts:
        rows.append(["searching states", "about a millisecond a token"])
    return Table(
        ["memory", "time on one core"],
        rows,
        title="time of a memory",
        caption="as measured in docs/benchmarks.md, with the files in main memory",
        ruled=True,
    )


def _in_rate(rate: float) -> str:
    return f"{rate:,.1f}" if rate >= 1 else f"{rate:.2g}"
