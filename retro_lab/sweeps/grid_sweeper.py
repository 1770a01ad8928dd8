"""`train.py -m`: every combination of the listed values, and a report of them at the end."""

from __future__ import annotations

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from retro_lab.config.errors import UserError

from .launching import PointSweeper


class GridSweeper(PointSweeper):
    """In place of Hydra's basic sweeper, with the same settings and the same points.

    Args:
        max_batch_size: points launched together; null launches all.
        params: values of settings, as one types them after `-m`.
    """

    def __init__(self, max_batch_size: int | None = None, params: Any = None) -> None:
        self.max_batch_size = max_batch_size
        self.params = params

    def sweep(self, arguments: list[str]) -> None:
        """Runs all points.

        Raises:
            UserError: for settings of the sweep that are wrong, or by a point that failed.
        """
        size = at_least_one("max_batch_size", self.max_batch_size, None)
        overrides = self.points.parse(self.params, arguments)
        batches = BasicSweeper.split_arguments(overrides, size)
        self.points.plan([point for batch in batches for point in batch])
        for batch in batches:
            self.points.launch(len(batch))
        self.points.report()
        self.points.raise_failure()


def at_least_one(name: str, value: Any, default: int | None) -> int | None:
    """A whole number of the sweeper's own settings; the default for null.

    Raises:
        UserError: for anything else.
    """
    if value is None:
        return default
    if type(value) is int and value >= 1:
        return value
    shown = "null" if default is None else default
    raise UserError(
        f"hydra.sweeper.{name}={value}: must be a whole number, at least 1",
        fix=f"hydra.sweeper.{name}={shown}",
    )
