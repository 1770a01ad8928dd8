"""Tables whose headings and figures stay whole in a narrow terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

GAP = 1  # spaces between columns


def widths(columns: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """Width of each column so that no word is broken; None where `width` doesn't hold them.

    Args:
        columns: heading and cells of each; they may wrap at spaces.
    """
    least = [max(len(word) for cell in cells for word in cell.split() or [""]) for cells in columns]
    best = [max(len(line) for cell in cells for line in cell.split("\n")) for cells in columns]
    left = width - sum(least) - GAP * len(columns)
    if left < 0:
        return None
    for column in sorted(range(len(columns)), key=lambda c: best[c] - least[c]):
        more = min(left, best[column] - least[column])
        least[column] += more
        left -= more
    return least


def table(
    title: str | None,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    widths: Sequence[int],
    figures: int,
) -> Table:
    """A table of these widths; the last `figures` columns are set to the right."""
    made = Table(
        title=title, title_justify="left", header_style="bold", box=None, padding=(0, GAP, 0, 0)
    )
    for number, (head, width) in enumerate(zip(heads, widths, strict=True)):
        justify = "right" if number >= len(heads) - figures else "left"
        made.add_column(escape(head), justify=justify, width=width, overflow="fold")
    for row in rows:
        made.add_row(*map(escape, row))
    return made
