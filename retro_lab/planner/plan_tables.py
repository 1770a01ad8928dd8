"""The planner's tables."""

from __future__ import annotations

from rich.table import Table

from .plan import MOST_CHUNKS, Database, PlannedFile, workers_for
from .plan_rates import Rates

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def in_bytes(count: float) -> str:
    """Three digits and a decimal unit, as 93.2 TB."""
    unit = 0
    while count >= 999.5 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    digits = 0 if unit == 0 or count >= 99.95 else 1 if count >= 9.995 else 2
    return f"{count:.{digits}f} {_UNITS[unit]}"


def in_time(seconds: float) -> str:
    """The largest unit that fits, as 3.2 h or 1,234 days."""
    for name, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:,.1f} {name}"
    return f"{seconds:,.1f} s"


def _each(count: int, planned: Database) -> str:
    return f"{count / planned.chunks:,.1f} B"


def sizes_table(planned: Database, files: list[PlannedFile], memory: dict[str, int]) -> Table:
    """Each file, and for each stage its bytes on disk and those that it holds while it is built."""
    table = Table(
        title=f"{planned.chunks:,} chunks of {planned.chunk_size} tokens, "
        f"{planned.database:,} of them in the database",
        title_justify="left",
        show_edge=False,
    )
    table.add_column("stage")
    table.add_column("file")
    for heading in ("on disk", "a chunk", "in memory"):
        table.add_column(heading, justify="right", no_wrap=True)
    for stage in dict.fromkeys(file.stage for file in files):
        own = [file for file in files if file.stage == stage]
        total = sum(file.bytes for file in own)
        held = memory[stage]
        table.add_row(
            f"[bold]{stage}",
            "",
            f"[bold]{in_bytes(total)}",
            _each(total, planned),
            in_bytes(held) if held else "a block",
        )
        for file in own:
            table.add_row("", file.name, in_bytes(file.bytes), _each(file.bytes, planned), "")
    everything = sum(file.bytes for file in files)
    table.add_section()
    table.add_row(
        "[bold]all",
        "",
        f"[bold]{in_bytes(everything)}",
        _each(everything, planned),
        in_bytes(most) if (most := max(memory.values())) else "a block",
    )
    notes = []
    if index := sum(file.bytes for file in files if file.stage == "index"):
        notes.append(f"A search maps the index; it is fast while {in_bytes(index)} stay in memory.")
    if planned.chunks > MOST_CHUNKS:
        stores = workers_for(planned.chunks, MOST_CHUNKS)
        notes.append(
            f"Chunk numbers are stored in 32 bits, at most {MOST_CHUNKS:,} chunks a store: "
            f"this corpus takes {stores} stores today."
        )
    table.caption = "\n".join(notes)
    table.caption_justify = "left"
    return table


def time_table(planned: Database, rates: Rates, dense: bool, deadline: float | None) -> Table:
    """Seconds of one worker for each stage that many can share, and workers for the deadline."""
    table = Table(title="time of one worker", title_justify="left", show_edge=False)
    table.add_column("stage")
    for heading in ("work", "rate", "time", "workers"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = [("neighbours", "queries", rates.search)]
    if dense:
        rows.insert(0, ("embeddings", "chunks", rates.embed))
    times = [planned.chunks / rate if rate else None for _, _, rate in rows]
    for (stage, unit, rate), seconds in zip(rows, times, strict=True):
        table.add_row(
            stage,
            f"{planned.chunks:,} {unit}",
            f"{_in_rate(rate)}/s" if rate else "not given",
            in_time(seconds) if seconds is not None else "-",
            "",
        )
    known = [seconds for seconds in times if seconds is not None]
    if len(known) == len(times):
        total = sum(known)
        workers = f"{workers_for(total, deadline):,} in {in_time(deadline)}" if deadline else "-"
        table.add_section()
        table.add_row("[bold]both" if dense else "[bold]all", "", "", in_time(total), workers)
    table.caption = f"{rates.note}; tokenizing and index building aren't counted"
    table.caption_justify = "left"
    return table


def _in_rate(rate: float) -> str:
    return f"{rate:,.1f}" if rate >= 1 else f"{rate:.2g}"
