"""Contract of a table: the same text in a terminal, in Markdown and on a page, where nothing in it
is taken for markup; figures without a value are a dash."""

from __future__ import annotations

import io

import pytest
from markupsafe import Markup
from rich.console import Console

from retro_lab.evaluation.report.table import Table, number, with_interval

TABLE = Table(["run", "bits/\nbyte", "n"], [["<a>[b]", "1.5", "2"], ["c", "-", "3"]], title="t[x]")


def printed(table: Table, width: int = 80) -> str:
    buffer = io.StringIO()
    Console(file=buffer, width=width).print(table)
    return buffer.getvalue()


def test_a_terminal_shows_every_character_names_left_and_figures_right() -> None:
    title, *lines = (line.rstrip() for line in printed(TABLE).splitlines())
    assert title == "t[x]"
    assert lines == ["       bits/", "run     byte n", "<a>[b]   1.5 2", "c          - 3"]


def test_markdown_has_headings_in_one_line() -> None:
    assert TABLE.markdown() == (
        "| run | bits/byte | n |\n| --- | --- | --- |\n| <a>[b] | 1.5 | 2 |\n| c | - | 3 |\n"
    )


def test_html_escapes_text_and_keeps_markup() -> None:
    rows = [["<a>", Markup("<b>x</b>"), "1"]]
    page = Table(["a", "<", "n"], rows, "t<", names=2).__html__()
    assert page == (
        '<table><caption>t&lt;</caption><thead><tr><th scope="col" class="name">a</th>'
        '<th scope="col" class="name">&lt;</th><th scope="col">n</th></tr></thead>'
        '<tbody><tr><th scope="row">&lt;a&gt;</th><td class="name"><b>x</b></td><td>1</td></tr>'
        "</tbody></table>"
    )
    assert '<th scope="col">bits/byte</th><th scope="col">n</th>' in TABLE.__html__()


def test_a_narrow_terminal_does_without_the_last_figures_and_breaks_none() -> None:
    table = Table(["run", "a", "b"], [["name", "1.2345", "6.7890"]], optional=1)
    assert "6.7890" in printed(table, 20)
    narrow = printed(table, 13)
    assert "1.2345" in narrow
    assert "6.78" not in narrow


def test_sums_stand_below_a_line() -> None:
    lines = printed(Table(["a", "b"], [["x", "1"], ["all", "1"]], ruled=True, sums=1)).splitlines()
    assert [line.split("│")[0].strip() for line in lines[2:]] == ["x", "─────┼───", "all"]


@pytest.mark.parametrize("value", [None, float("nan")])
def test_what_was_not_measured_is_a_dash(value: float | None) -> None:
    assert number(value, ".2f") == with_interval(value, None, None) == "-"


def test_an_interval_stands_in_brackets() -> None:
    assert with_interval(-0.031, -0.0402, 0.0221) == "-0.0310 (-0.0402..+0.0221)"
    assert with_interval(-0.031, None, None, "+.2f") == "-0.03"
