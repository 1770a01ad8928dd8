"""Fields of a schema with bounds, choices and their part in an identity."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator
from copy import deepcopy
from math import inf
from typing import Any, TypeVar

from ..errors import UserError, as_text, problem

T = TypeVar("T")

_IN_METADATA = "setting"
_LARGEST_INT = 2**63 - 1  # the limit of torch, NumPy and Parquet
_NEVER = object()


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Properties of a setting besides its type and default.

    Attributes:
        at_least, above: inclusive and exclusive lower bound.
        at_most, below: inclusive and exclusive upper bound; sizes are bounded far above any useful
            value, below sizes that exhaust memory or never end.
        choices: all allowed values.
        identity: whether another value makes another run (for `eval`, another evaluation).
        neutral: for a setting added after the first release, the value that keeps the old
            behaviour; left out of keys, so that older data and runs are found.
        path: whether the setting names a file, a folder, or something on the hub.
    """

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    choices: tuple[str | None, ...] = ()
    identity: bool = True
    neutral: object = _NEVER
    path: bool = False


def setting(default: T, **bounds: Any) -> T:
    """A schema field with this default; `bounds` are attributes of `Bounds`."""
    metadata = {_IN_METADATA: Bounds(**bounds)}
    if isinstance(default, (list, dict)) or dataclasses.is_dataclass(default):
        return dataclasses.field(default_factory=lambda: deepcopy(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def bounds_of(field: dataclasses.Field) -> Bounds:
    """The bounds of a field; `Bounds()` for a field without `setting`."""
    return field.metadata.get(_IN_METADATA, Bounds())


def neutral_values(schema: Any) -> dict[str, object]:
    """Neutral values of a schema's settings, by name; takes a schema or an instance."""
    found = {field.name: bounds_of(field).neutral for field in dataclasses.fields(schema)}
    return {name: value for name, value in found.items() if value is not _NEVER}


def left_out(settings: Any) -> set[str]:
    """Names of the settings outside the key: `identity=False`, or at their neutral value.

    Args:
        settings: an instance of a schema; nested schemas are not visited.
    """
    outside = {f.name for f in dataclasses.fields(settings) if not bounds_of(f).identity}
    neutral = neutral_values(settings).items()
    return outside | {name for name, value in neutral if getattr(settings, name) == value}


def own_problems(settings: Any, prefix: str = "") -> Iterator[UserError]:
    """Broken bounds of every setting, and the problems of each schema's `problems(prefix)`.

    Args:
        settings: an instance of a schema; nested schemas are visited too.
        prefix: key of the instance with a trailing dot; empty for the root.
    """
    for field in dataclasses.fields(settings):
        key, value = f"{prefix}{field.name}", getattr(settings, field.name)
        yield from _broken_bounds(key, value, field)
        inside = value if isinstance(value, dict) else {"": value}
        for name, item in inside.items():
            if dataclasses.is_dataclass(item):
                yield from own_problems(item, f"{key}.{name}." if name else f"{key}.")
    if hasattr(settings, "problems"):
        yield from settings.problems(prefix)


def _broken_bounds(key: str, value: Any, field: dataclasses.Field) -> Iterator[UserError]:
    bounds = bounds_of(field)
    if bounds.choices and value not in bounds.choices:
        offered = [as_text(choice) for choice in bounds.choices]
        near = difflib.get_close_matches(as_text(value), offered, 1, cutoff=0.4) or offered
        yield problem(key, value, f"must be {' or '.join(offered)}", f"{key}={near[0]}")
    numbers = value if isinstance(value, list) else [value]
    for number in numbers:
        too_long = isinstance(number, int) and abs(number) > _LARGEST_INT
        if too_long and bounds.at_most is None:
            yield problem(key, number, "is beyond 64 bits", f"set {key} to less than 2**63")
    if isinstance(value, (int, float)):
        yield from _out_of_range(key, value, bounds, field)


def _out_of_range(
    key: str, value: float, bounds: Bounds, field: dataclasses.Field
) -> Iterator[UserError]:
    low, high = bounds.at_least, bounds.at_most
    too_low = (low is not None and not value >= low) or (
        bounds.above is not None and not value > bounds.above
    )
    null = ", or null" if str(field.type).endswith("| None") else ""
    if bounds.below is not None:
        if too_low or not value < bounds.below:
            interval = f"({bounds.above}" if low is None else f"[{low}"
            rule = f"must be in {interval}, {bounds.below})"
            yield problem(key, value, rule, f"{key}={field.default}")
    elif (low, high) == (0, 1):
        if not 0 <= value <= 1:
            yield problem(key, value, "must be from 0 to 1", f"set {key} to a number from 0 to 1")
    elif high is not None and value > high:
        yield problem(key, value, f"must be at most {high}", f"lower {key}")
    elif too_low or (value == inf and (low, bounds.above) != (None, None)):
        rule, numbers = {
            None: ("must be finite and above 0", "a number above 0"),
            0: ("must be finite and not negative", "0 or more"),
        }.get(low, (f"must be at least {low}", f"{low} or more"))
        yield problem(key, value, f"{rule}{null}", f"set {key} to {numbers}{null}")
