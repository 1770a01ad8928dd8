"""Launches the points of a sweep with Hydra's launcher, records them and reports at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.errors import OverrideParseException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from retro_lab.config.compose import to_config
from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import canonical, run_name
from retro_lab.config.schema import Config
from retro_lab.config.serialise import flatten

from .failure import one_line
from .points import Point, write_points
from .report import report_sweep

PARAMS = "hydra.sweeper.params"


class Points:
    """The points of a sweep: plans, launches and reports them.

    Args:
        config: Hydra's composed configuration of the sweep, without overrides of single points.

    Raises:
        UserError: `hydra.sweep.dir` differs from `runs_dir`.
    """

    def __init__(self, context: HydraContext, task: TaskFunction, config: DictConfig) -> None:
        self.config = config
        self.loader = context.config_loader
        self.folder = Path(config.runs_dir) if "runs_dir" in config else None
        if self.folder is not None:
            _refuse_other_folder(config, self.folder)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=task, config=config
        )
        self.planned: list[Point] = []
        self.configs: dict[tuple[str, ...], Config] = {}  # by overrides
        self.failures: list[Exception] = []
        self.launched = 0

    def parse(self, params: Any, arguments: Sequence[str]) -> list[Override]:
        """Overrides of `hydra.sweeper.params` and the command line, which takes precedence.

        Raises:
            UserError: `params` is no mapping, or a value cannot be parsed.
        """
        if OmegaConf.is_config(params):
            params = OmegaConf.to_container(params)
        if not isinstance(params, dict):
            raise UserError(
                f"{PARAMS}={params} is no mapping of keys to values",
                fix=f"for example '{PARAMS}.seed=\"1,2\"'",
            )
        parser = OverridesParser.create(config_loader=self.loader)
        found: dict[str, Override] = {}
        for key, value in flatten(params).items():
            try:
                [override] = parser.parse_overrides([f"{key}={value}"])
            except OverrideParseException as error:
                raise UserError(
                    f"{PARAMS}.{key}={value} cannot be read as values of {key}",
                    fix="write several as 1,2 or choice(1,2), a range as interval(0,1); an "
                    "opened bracket or quote must be closed",
                ) from error
            found[override.get_key_element()] = override
        for override in parser.parse_overrides(list(arguments)):
            found[override.get_key_element()] = override
        return list(found.values())

    def plan(self, batch: Sequence[Sequence[str]]) -> list[Point]:
        """Adds points to the list, composing each configuration to detect errors before any run."""
        added = []
        for overrides in batch:
            config = self._config(overrides)
            added.append(Point("" if config is None else run_name(config), list(overrides)))
        self.planned += added
        self._write()
        return added

    def launch(self, count: int) -> list[JobReturn]:
        """Runs the next `count` planned points and records failures."""
        points = self.planned[self.launched : self.launched + count]
        batch = [point.overrides for point in points]
        jobs = list(self.launcher.launch(batch, initial_job_idx=self.launched))
        self.launched += count
        for point, job in zip(points, jobs, strict=True):
            if (error := failure_of(job)) is not None:
                point.error = one_line(error)
                self.failures.append(error)
        self._write()
        return jobs

    def report(self, earlier: Iterable[Sequence[str]] = ()) -> None:
        """Reports on the sweep's points and on earlier ones, given by their overrides."""
        if self.folder is not None:
            for overrides in earlier:
                self._config(overrides)
            report_sweep(self.folder, list(self.configs.values()))

    def raise_failure(self) -> None:
        """Raises the first failure of a point, bugs before user errors; none if all succeeded."""
        bugs = [error for error in self.failures if not isinstance(error, UserError)]
        for error in [*bugs, *self.failures]:
            raise error

    def _config(self, overrides: Sequence[str]) -> Config | None:
        """A point's configuration, composed once and kept; None in `evaluate.py -m`."""
        if (known := self.configs.get(tuple(overrides))) is not None:
            return known
        composed = self.loader.load_sweep_config(self.config, list(overrides))
        if self.folder is None:
            return None
        return self.configs.setdefault(tuple(overrides), canonical(to_config(composed)))

    def _write(self) -> None:
        if self.folder is not None:
            write_points(self.folder, self.planned)


class PointSweeper(Sweeper):
    """Base class of the sweepers, with `Points` set up."""

    points: Points

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.points = Points(hydra_context, task_function, config)


def failure_of(job: JobReturn) -> Exception | None:
    """The exception that a job raised; None if the job succeeded."""
    try:
        with redirect_stderr(StringIO()):  # Hydra would print the overrides a second time
            _ = job.return_value
    except Exception as error:
        return error
    return None


def _refuse_other_folder(config: DictConfig, folder: Path) -> None:
    asked = Path(config.hydra.sweep.dir)
    if asked.resolve() != folder.resolve():
        raise UserError(
            f"hydra.sweep.dir={asked}: runs are made in runs_dir={folder}, each in a directory "
            "named after its settings",
            fix=f"runs_dir={asked}",
        )
