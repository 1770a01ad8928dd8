"""Filters and sorts the rows of a report: `where=k>=2`, `sort=bpb`."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from retro_lab.config.errors import UserError

from ..measure.seeds import SeedGroup
from .sweep import AXES, MEASURED, SweepRow, in_sweep_order

_CONDITION = re.compile(r"([\w.@]+)\s*(<=|>=|!=|=|<|>)\s*(.*)")
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
FIGURES: dict[str, Callable[[SweepRow], float | None]] = {
    "bpb": lambda row: row.score.bpb,
    "gain": lambda row: row.difference and row.difference.delta_bpb,
    "leak_free": lambda row: row.leak_free and row.leak_free.delta_bpb,
    "memory": lambda row: row.memory and row.memory.bpb,
    "flops": lambda row: row.flops,
    "time": lambda row: row.seconds,
}
_COLUMNS = (*AXES, *MEASURED, "k")


def where(rows: Sequence[SweepRow], conditions: Sequence[str]) -> list[SweepRow]:
    """Rows for which every condition holds.

    Args:
        conditions: `retriever=bm25,faiss_flat`, `k>=2`, `optim.lr<0.01`, `bpb<2`, `split!=test`;
            a key is a column, a figure (bpb, gain, leak_free, memory, flops, time) or a setting.

    Raises:
        UserError: a condition is malformed, or no row has its key.
    """
    for condition in conditions:
        match = _CONDITION.fullmatch(condition)
        if match is None or not match[3]:
            raise UserError(
                f"where={condition} is no condition",
                fix="write a key, a sign (= != < > <= >=) and a value: where=k>=2",
            )
        key, sign, value = match.groups()
        _check(rows, key)
        rows = [row for row in rows if _holds(figure(row, key), sign, value)]
    return list(rows)


def sorted_rows(rows: Sequence[SweepRow], sort: str | None) -> list[SweepRow]:
    """Rows sorted by a key as in `where`, descending with a leading minus, missing values last.

    Raises:
        UserError: no row has the key.
    """
    ordered = in_sweep_order(rows)
    if sort is None:
        return ordered
    key = sort.removeprefix("-")
    _check(rows, key)
    return _by(ordered, lambda row: figure(row, key), sort.startswith("-"))


def sorted_groups(groups: Sequence[SeedGroup], sort: str | None) -> list[SeedGroup]:
    """Groups sorted as by `sorted_rows`, with means over seeds as values."""
    if sort is None:
        return list(groups)
    key = sort.removeprefix("-")
    means = {"bpb": lambda g: g.bpb.mean, "gain": lambda g: g.gain and g.gain.mean}
    means |= {"leak_free": lambda g: g.leak_free and g.leak_free.mean}
    means |= {"memory": lambda g: g.memory and g.memory.mean}
    value = means.get(key, lambda group: figure(group.rows[0], key))
    return _by(groups, value, sort.startswith("-"))


def figure(row: SweepRow, key: str) -> Any:
    """The figure, column or setting of this name; None if the row lacks it."""
    if key in FIGURES:
        return FIGURES[key](row)
    return getattr(row, key) if key in _COLUMNS else row.options.get(key)


def _by(items: Sequence, value: Callable[[Any], Any], down: bool) -> list:
    having = [item for item in items if value(item) is not None]
    numbers = all(isinstance(value(item), (int, float)) for item in having)
    having.sort(key=lambda item: value(item) if numbers else str(value(item)), reverse=down)
    return [*having, *(item for item in items if value(item) is None)]


def _holds(found: Any, sign: str, value: str) -> bool:
    if sign in ("=", "!="):
        options = value.split(",")
        same = any(_same(found, option) for option in options)
        return same == (sign == "=")
    try:
        return isinstance(found, (int, float)) and _SIGNS[sign](found, float(value))
    except ValueError:
        raise UserError(
            f"where=...{sign}{value}: {value} is no number", fix="compare texts with = or !="
        ) from None


def _same(found: Any, option: str) -> bool:
    if isinstance(found, (int, float)) and not isinstance(found, bool):
        try:
            return float(option) == found
        except ValueError:
            return False
    typed = {None: "null", True: "true", False: "false"}
    return option == (typed[found] if found is None or isinstance(found, bool) else str(found))


def _check(rows: Sequence[SweepRow], key: str) -> None:
    names = {*FIGURES, *_COLUMNS, *(name for row in rows for name in row.options)}
    if rows and key not in names:
        near = difflib.get_close_matches(key, sorted(names), n=1)
        raise UserError(
            f"{key} is no column, figure or setting of these runs",
            fix=f"did you mean {near[0]}?"
            if near
            else f"take one of {', '.join(_COLUMNS)}, "
            f"{', '.join(FIGURES)}, or a setting such as optim.lr",
        )
