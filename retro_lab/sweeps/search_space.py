"""Converts Hydra's sweep syntax to Optuna's distributions, and a trial's values to overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from retro_lab.config.errors import UserError

# Settings of measure, text and random seed: a search over them would only find the easiest text or
# the luckiest seed.
NOT_SEARCHED = ("eval", "corpus", "seed", "objective", "runs_dir", "store", "resume", "debug")


def search_space(overrides: Sequence[Override]) -> dict[str, BaseDistribution]:
    """Distribution of every override with several values, by key.

    `interval(a, b)` is a real number, `int(interval(a, b))` a whole one, both logarithmic under
    `tag(log, ...)`; `range(a, b, step)` are evenly spaced numbers below b; `choice(a, b)` and
    `a,b` are unordered options.

    Raises:
        UserError: no override has several values, a key must not be searched, or values are
            invalid.
    """
    searched = [override for override in overrides if override.is_sweep_override()]
    if not searched:
        raise UserError(
            "nothing to search: every setting has one value",
            fix="give one several, for example 'optim.lr=tag(log,interval(1e-3,1e-2))'",
        )
    space = {}
    for override in searched:
        key = override.get_key_element()
        if key.lstrip("+").split(".")[0] in NOT_SEARCHED:
            raise UserError(
                f"{override.input_line}: an optimiser chooses no {key}",
                fix="search settings of the model and its training; compare others with -m",
            )
        try:
            space[key] = _distribution(override)
        except ValueError as error:
            raise UserError(
                f"{override.input_line} is no search space: {error}",
                fix=f"for example {key}=interval(0,1) or {key}=choice(1,2)",
            ) from error
    return space


def as_overrides(params: Mapping[str, Any]) -> list[str]:
    """A trial's values as command-line overrides."""
    return [f"{key}={value}" for key, value in params.items()]


def _distribution(override: Override) -> BaseDistribution:
    sweep: Any = override.value()
    log = "log" in sweep.tags
    if isinstance(sweep, IntervalSweep):
        if isinstance(sweep.start, int) and isinstance(sweep.end, int):
            return IntDistribution(sweep.start, sweep.end, log=log)
        assert sweep.start is not None
        assert sweep.end is not None
        return FloatDistribution(sweep.start, sweep.end, log=log)
    if isinstance(sweep, RangeSweep):
        values = list(sweep.range())
        if not values:
            raise ValueError("the range is empty")
        step = abs(sweep.step)
        if all(isinstance(value, int) for value in values):
            return IntDistribution(min(values), max(values), step=int(step))
        return FloatDistribution(min(values), max(values), step=step)
    return CategoricalDistribution(list(override.sweep_string_iterator()))
