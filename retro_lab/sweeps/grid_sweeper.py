"""`train.py -m`: runs every combination of the listed values and reports on them."""

from __future__ import annotations

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from retro_lab.config.errors import UserError

from .launching import PointSweeper


class GridSweeper(PointSweeper):
    """Replaces Hydra's basic sweeper, with the same settings and points.

    Args:
        max_batch_size: points launched together; None launches all.
        params: values by setting, in the syntax of the command line.
    """

    def __init__(self, max_batch_size: int | None = None, params: Any = None) -> None:
        self.max_batch_size = max_batch_size
        self.params = params

    def sweep(self, arguments: list[str]) -> None:
        """Runs all points.

        Raises:
            UserError: the sweep's settings are invalid, or a point failed.
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
    """A setting of the sweeper that must be a whole number above 0; the default for None.

    Raises:
        UserError: for any other value.
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
