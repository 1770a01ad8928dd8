"""A table of text for terminals, HTML pages and Markdown, and number formats for its cells.

rich prints a `Table` (`console.print(table)`), jinja2 renders it as HTML (`{{ table }}`), and
`Table.markdown` returns Markdown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

NONE = "-"
GAP = 1  # spaces between columns of a terminal


@dataclass(frozen=True)
class Table:
    """Headings and rows of text.

    Attributes:
        head: a heading for each column; a terminal breaks headings at line feeds. Empty for an HTML
            table without headings.
        rows: a cell for each column. A cell of type `Markup` is HTML, for pages only.
        title: text above the table in a terminal, and its caption on a page.
        caption: text below the table in a terminal.
        names: number of name columns at the front, aligned left; the others are figures.
        name_width: least width of the first column in a terminal, where longer names are folded;
            None never folds names.
        whole_title: make the table at least as wide as its title in a terminal.
        optional: number of columns at the end that a narrow terminal may drop, so that no heading
            or number is broken; None leaves widths to rich.
        spare: numbers of columns that a narrow terminal leaves out, the least important first.
        ruled: draw lines in a terminal.
        sums: number of rows at the end that are sums, set off by a line.
        strong: indices of the rows that a terminal prints in bold.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str | None = None
    caption: str | None = None
    names: int = 1
    name_width: int | None = None
    whole_title: bool = False
    optional: int | None = None
    spare: Sequence[int] = ()
    ruled: bool = False
    sums: int = 0
    strong: Sequence[int] = ()

    @property
    def heads(self) -> list[str]:
        """Headings without line feeds, for files."""
        return [head.replace("/\n", "/").replace("\n", " ") for head in self.head]

    def markdown(self) -> str:
        """The table in Markdown, with a line feed at the end."""
        lines = [self.heads, ["---"] * len(self.head), *self.rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def __html__(self) -> Markup:
        forms = [Markup('<th scope="col" class="name">{}</th>')] * self.names
        forms += [Markup('<th scope="col">{}</th>')] * (len(self.head) - self.names)
        head = Markup().join(form.format(h) for form, h in zip(forms, self.heads, strict=False))
        head = head and Markup("<thead><tr>{}</tr></thead>").format(head)
        rows = Markup().join(self._html_row(row) for row in self.rows)
        title = self.title and Markup("<caption>{}</caption>").format(self.title)
        return Markup("<table>{}{}<tbody>{}</tbody></table>").format(title or "", head, rows)

    def _html_row(self, row: Sequence[str]) -> Markup:
        """A row of a page: its first cell is the row's heading, further names are set left."""
        heading, name, figure = map(
            Markup, ('<th scope="row">{}</th>', '<td class="name">{}</td>', "<td>{}</td>")
        )
        forms = [heading, *[name] * (self.names - 1)]
        forms += [figure] * (len(row) - len(forms))
        cells = [form.format(cell) for form, cell in zip(forms, row, strict=True)]
        return Markup("<tr>{}</tr>").format(Markup().join(cells))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.optional is None:
            yield self._narrowed(options.max_width)._printed()
        else:
            fewer, widths = _fitted(self, self.optional, options.max_width)
            yield fewer._printed(widths)

    def _narrowed(self, width: int) -> Table:
        """The table without as many of its spare columns as it takes to fit a terminal."""
        lines = [max(len(w) for cell in c for w in cell.split("\n")) for c in _columns(self)]
        dropped: list[int] = []
        for column in self.spare:
            if sum(lines) + GAP * (len(lines) - len(dropped)) <= width:
                break
            lines[column] = 0
            dropped.append(column)
        if not dropped:
            return self
        kept = [number for number in range(len(self.head)) if number not in dropped]
        return replace(
            self,
            head=[self.head[number] for number in kept],
            rows=[[row[number] for number in kept] for row in self.rows],
            caption=f"narrow terminal: without {', '.join(self.heads[c] for c in sorted(dropped))}",
        )

    def _printed(self, widths: Sequence[int] | None = None) -> Any:
        """The table as a rich table.

        Args:
            widths: widths of the columns, in which cells are folded.
        """
        from rich.markup import escape
        from rich.table import Table as RichTable

        plain: dict[str, Any] = {"box": None, "padding": (0, GAP, 0, 0), "header_style": "bold"}
        style: dict[str, Any] = {"show_edge": False} if self.ruled else plain
        if self.whole_title and self.title:
            style["min_width"] = len(self.title)
        made = RichTable(
            title=self.title and escape(self.title),
            title_justify="left",
            caption=self.caption and escape(self.caption),
            caption_justify="left",
            **style,
        )
        for number, head in enumerate(self.head):
            justify = "left" if number < self.names else "right"
            if widths is not None:
                layout: dict[str, Any] = {"width": widths[number], "overflow": "fold"}
            elif number == 0 and self.name_width is not None:
                layout = {"min_width": self.name_width, "overflow": "fold"}
            else:
                layout = {"no_wrap": True}
            made.add_column(escape(head), justify=justify, **layout)
        for number, row in enumerate(self.rows):
            if self.sums and number == len(self.rows) - self.sums:
                made.add_section()
            made.add_row(*map(escape, row), style="bold" if number in self.strong else None)
        return made


def number(value: float | None, form: str) -> str:
    """A formatted number; `-` for None and NaN."""
    return NONE if value is None or value != value else format(value, form)


def with_interval(
    value: float | None, low: float | None, high: float | None, form: str = "+.4f"
) -> str:
    """`-0.0310 (-0.0402..-0.0221)`; without an interval the value alone."""
    if value is None or low is None or high is None:
        return number(value, form)
    return f"{value:{form}} ({low:{form}}..{high:{form}})"


def _fitted(table: Table, optional: int, width: int) -> tuple[Table, list[int]]:
    """The table shortened to fit a terminal, and the widths of its columns.

    Tried in order: optional columns dropped; names also merged into one column; one more column
    dropped if there are two gains; at last, long names broken.

    Args:
        optional: number of columns at the end that may be dropped.
        width: width of the terminal.
    """
    gains = sum(head.startswith("on - ") for head in table.head)
    for counts in (range(optional + 1), [optional + 1] if gains > 1 else []):
        for one in (table, _merged(table)):
            for count in counts:
                fewer = _without(one, count)
                if found := _widths(_columns(fewer), width):
                    return fewer, found
    least = _without(_merged(table, "= "), optional)
    figures = _columns(least)[1:]
    return least, [20, *(_widths(figures, width - 21) or [10] * len(figures))]


def _merged(table: Table, sign: str = "=") -> Table:
    """The table with one column for all names, such as `optim.lr=0.003 model=tiny`."""
    keys = [name.replace(" ", "_") for name in table.head[: table.names]]
    told = [zip(keys, row[: table.names], strict=True) for row in table.rows]
    words = [" ".join(f"{key}{sign}{v}" for key, v in pairs if v) for pairs in told]
    rows = [[word, *row[table.names :]] for word, row in zip(words, table.rows, strict=True)]
    return replace(table, head=["settings", *table.head[table.names :]], rows=rows, names=1)


def _without(table: Table, count: int) -> Table:
    """The table without its last `count` columns."""
    end = len(table.head) - count
    return replace(table, head=table.head[:end], rows=[row[:end] for row in table.rows])


def _columns(table: Table) -> list[list[str]]:
    return [[head, *(row[c] for row in table.rows)] for c, head in enumerate(table.head)]


def _widths(columns: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """Widths of columns such that no word is broken; None if they do not fit into `width`.

    Args:
        columns: heading and cells of each column, which may wrap at spaces.
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
