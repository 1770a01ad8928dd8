"""Reads rivals.json and formats it as a table, without torch and without the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from retro_lab.config.errors import UserError
from retro_lab.evaluation.measure.conditions import label
from retro_lab.evaluation.measure.leakage import LEAK_FREE_ALPHA
from retro_lab.evaluation.records.record_file import read_record
from retro_lab.evaluation.report.table import NONE, Table, number, with_interval

SCHEMA_VERSION = 1
RIVALS_FILE = "rivals.json"
_EXACT = "r(C) is exact: the longest run shared with any text of database and training split."


def load(folder: Path) -> dict[str, Any]:
    """The content of a run's rivals.json.

    Raises:
        UserError: the file is missing, damaged or of another schema version.
    """
    path = folder / RIVALS_FILE
    fix = "python evaluate.py run=... eval=rivals"
    record = read_record(path, SCHEMA_VERSION, fix)
    try:
        rivals_tables(record)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged: it makes no table ({error!r})", fix=fix) from error
    return record


def rivals_table(record: Mapping[str, Any]) -> Table:
    """One row a rival: bits per byte by part of the text, difference from the run, and costs."""
    scored, sample = record["scored"], record["subsample"]
    title = (
        f"rivals on {len(scored['documents'])} documents of the {scored['split']} split, tuned on "
        f"{len(record['tuned_on']['documents'])} of {record['tuned_on']['split']}"
    )
    rows = []
    for row in record["rivals"]:
        figures = row["figures"]
        everywhere, shown = figures.get("all"), figures.get("all") or figures["subsample"]
        parts = [figures.get(part) for part in ("all", "leak_free", "subsample")]
        difference = shown and with_interval(
            shown["difference"], shown["low"], shown["high"], "+.3f"
        )
        rows.append(
            [
                row["label"] if everywhere else f"{row['label']} *",
                *(number(part and part["bits_per_byte"], ".3f") for part in parts),
                difference or NONE,
                str(len(row["tuning"]["trials"]) or NONE),
                f"{row['seconds']:,.0f}",
                NONE if (parameters := row["parameters"]) is None else _short(parameters),
                _megabytes(row["datastore_bytes"]),
            ]
        )
    less = f"less {record.get('compared_with', label('on')) or 'a memory'}"
    head = ["rival", "bits/\nbyte", f"r(C)≤\n{LEAK_FREE_ALPHA:g}"]
    head += [f"{len(sample['documents'])}\ndocs", less, "tried", "s", "params", "MB"]
    exact = [_EXACT] if record.get("exact") else []
    return Table(head, rows, title, "\n".join([*exact, *_notes(record["rivals"])]) or None)


def rivals_tables(record: Mapping[str, Any]) -> list[Table]:
    """The rivals' tables: their figures and costs, and differences from the plain model."""
    against = _plain_table(record)
    return [rivals_table(record), *([] if against is None else [against])]


def _plain_table(record: Mapping[str, Any]) -> Table | None:
    """One row a rival: its bits per byte minus the plain model's; None without a plain model."""
    rows, plain = [], record.get("plain", label("plain"))
    for row in record["rivals"]:
        figures = [row["figures"].get(part) or {} for part in ("all", "leak_free")]
        cells = [_against_plain(figure) for figure in figures]
        if any(cells):
            rows.append([row["label"], *(cell or NONE for cell in cells)])
    named = "plain model" if plain == label("plain") else plain
    parts = ("all text", f"r(C) ≤ {LEAK_FREE_ALPHA:g}")
    head = ["rival", *(f"less {plain}, {part}" for part in parts)]
    note = "Bits per byte; below zero, the rival is better. Intervals over documents."
    return Table(head, rows, f"against the {named}", note) if rows else None


def _against_plain(figure: Mapping[str, Any]) -> str | None:
    """A difference with its interval, of a figure that has one."""
    found = figure.get("against_plain")
    return found and with_interval(found["difference"], found["low"], found["high"], "+.3f")


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Notes below the table: partial scores, settings at the end of a grid, learning rates."""
    notes = []
    if any(row["figures"].get("all") is None for row in rows):
        notes.append("* compared on the sampled documents alone")
    ends = [f"{row['label']} ({', '.join(found)})" for row in rows if (found := _ends(row))]
    if ends:
        notes.append(f"At the end of what was tried, so more may be better: {'; '.join(ends)}.")
    for row in rows:
        factor = row["tuning"]["chosen"].get("lr_factor", 1)
        if factor != 1:
            notes.append(
                f"NOTE: {row['label']} learned best at {factor:g} times the run's optim.lr. The "
                "run's own baseline may do so too: tune optim.lr before its gain is quoted."
            )
            break
    return [*notes, *_distributions(rows)]


def _distributions(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the sampled distributions said: a line for all that sum to one, one for each failure."""
    asked = [row for row in rows if "distribution" in row.get("facts", {})]
    failed = [row for row in asked if not row["facts"]["distribution"]["passed"]]
    notes = []
    if len(asked) > len(failed):
        notes.append(
            f"At sampled places, {len(asked) - len(failed)} of {len(rows)} rows were asked for "
            "their whole distributions: these sum to one and give the counted scores."
        )
    for row in failed:
        found = row["facts"]["distribution"]
        notes.append(
            f"FAILED: {row['label']} is no distribution: at one of {found['places']} places its "
            f"probabilities sum to {found['total']:.4f}, and a score differs from its "
            f"distribution's by {found['gap']:.2g} nats."
        )
    return notes


def _ends(row: Mapping[str, Any]) -> list[str]:
    """Tuned settings, as `name=value`, at either end of a grid of three or more values.

    Nothing is beyond a share or rate of 0, which is the baseline itself, nor beyond the layers.
    """
    found = []
    for name, value in row["tuning"]["chosen"].items():
        tried = {trial[name] for trial in row["tuning"]["trials"]}
        beyond = value != 0 and name != "layer"
        if beyond and len(tried) > 2 and value in (min(tried), max(tried)):
            found.append(f"{name}={value:g}")
    return found


def _short(count: int) -> str:
    """A count such as `240k` or `1.24M`."""
    return f"{count / 1e3:.0f}k" if count < 1e6 else f"{count / 1e6:.3g}M"


def _megabytes(count: int) -> str:
    """Bytes in megabytes, such as `5.5` or `1,521`."""
    return f"{count / 1e6:,.{0 if count >= 1e8 else 1}f}" if count else NONE
