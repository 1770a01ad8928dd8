"""The files of an audit that other programs read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

import retro_lab
from retro_lab.config.files import replacing
from retro_lab.evaluation.records.csv_file import write_csv

from .audit import Audit
from .checks import QUESTIONS, Check
from .overlap import CurvePoint

SCHEMA_VERSION = 1
FILES = {
    "audit.json": "everything, for programs",
    "leaked_documents.txt": "ids of leaked documents, one a line",
    "leaked_documents.jsonl": "the same with share, longest run and its text",
    "lm_eval.json": "bpb(alpha) in the format of lm-eval's results",
    "tables.csv": "bpb(alpha), a row for each alpha",
    "tables.tex": "checks and bpb(alpha) as LaTeX tables (booktabs)",
}
_COLUMNS = ("alpha", "bpb", "low", "high", "chunks", "tokens", "bytes", "documents")
_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    }
)


def outcome(check: Check) -> str:
    """The word for a check's outcome; `bounded`: not refuted, and not shown."""
    if check.passed is None:
        return "not asked" if check.figure is None else "bounded"
    return "passed" if check.passed else "failed"


def write_exports(audit: Audit, folder: Path) -> None:
    """Writes all files but the page atomically; those of leaks only if overlap was measured."""
    _json(record_of(audit), folder / "audit.json")
    _json(lm_eval_of(audit), folder / "lm_eval.json")
    write_csv(_COLUMNS, [_cells(point) for point in audit.curve], folder / "tables.csv")
    _write("\n".join([_checks_table(audit), _curve_table(audit)]), folder / "tables.tex")
    leaked = audit.leaked or []
    _write("".join(f"{each.id}\n" for each in leaked), folder / "leaked_documents.txt")
    lines = b"".join(orjson.dumps(asdict(each)) + b"\n" for each in leaked)
    _write(lines.decode(), folder / "leaked_documents.jsonl")


def record_of(audit: Audit) -> dict[str, Any]:
    """audit.json: fields are added between versions, never renamed."""
    record = asdict(audit)
    record["checks"] = [
        {"question": QUESTIONS[check.name], "outcome": outcome(check), **asdict(check)}
        for check in audit.checks
    ]
    return {"schema_version": SCHEMA_VERSION, "passed": not audit.failed, **record}


def lm_eval_of(audit: Audit) -> dict[str, Any]:
    """The curve as lm-eval writes results: a task for each alpha, with its standard error.

    An interval of 95 % is 3.92 standard errors wide if the figure is normally distributed.
    """
    results, samples = {}, {}
    for point in audit.curve:
        if point.bpb is None:
            continue
        name = "audit" if point.alpha == 1 else f"audit_alpha_{point.alpha:g}"
        error: float | str = "N/A"
        if point.low is not None and point.high is not None:
            error = (point.high - point.low) / 3.92
        results[name] = {
            "alias": name,
            "bits_per_byte,none": point.bpb,
            "bits_per_byte_stderr,none": error,
            "byte_perplexity,none": 2**point.bpb,
            "byte_perplexity_stderr,none": "N/A",
        }
        samples[name] = {"original": audit.documents, "effective": point.documents}
    lower = {"bits_per_byte": False, "byte_perplexity": False}
    return {
        "results": results,
        "group_subtasks": {name: [] for name in results},
        "configs": {name: {"task": name} for name in results},
        "versions": dict.fromkeys(results, SCHEMA_VERSION),
        "n-shot": dict.fromkeys(results, 0),
        "higher_is_better": dict.fromkeys(results, lower),
        "n-samples": samples,
        "config": {"model": audit.subject, "model_args": "", "text": audit.text},
        "retro_lab_version": retro_lab.__version__,
    }


def _cells(point: CurvePoint) -> list[Any]:
    return [getattr(point, name) for name in _COLUMNS]


def _checks_table(audit: Audit) -> str:
    rows = [
        [QUESTIONS[check.name], outcome(check), figure_text(check.figure)] for check in audit.checks
    ]
    return _tabular("llr", ["Check", "Outcome", "Figure"], rows)


def _curve_table(audit: Audit) -> str:
    rows = [
        [f"{p.alpha:g}", *map(figure_text, (p.bpb, p.low, p.high)), str(p.chunks), str(p.documents)]
        for p in audit.curve
    ]
    return _tabular("rrrrrr", ["alpha", "bpb", "low", "high", "chunks", "documents"], rows)


def figure_text(figure: float | None) -> str:
    """A figure in four digits behind the point; `-` for none."""
    if figure is None:
        return "-"
    if not math.isfinite(figure):
        return "infinite"
    return (
        f"{figure:.4f}"
        if abs(figure) < 1e5 and (figure == 0 or abs(figure) >= 1e-4)
        else (f"{figure:.3g}")
    )


def _tabular(columns: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" & ".join(cell.translate(_TEX) for cell in row) + r" \\" for row in (head, *rows)]
    parts = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule", *lines[1:]]
    return "\n".join([*parts, r"\bottomrule", r"\end{tabular}", ""])


def _json(value: Any, path: Path) -> None:
    _write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n", path)


def _write(text: str, path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
