"""`sweep=optuna`: Optuna proposes settings, Hydra's launcher runs them, a database stores them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout
from hydra.core.override_parser.types import Override

from retro_lab.config.compose import to_config
from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import eval_fields, memory_fields, run_fields
from retro_lab.config.rules import check, check_choosing
from retro_lab.config.schema import Config
from retro_lab.config.serialise import flatten

from .grid_sweeper import at_least_one
from .launching import PARAMS, PointSweeper


class OptunaSweeper(PointSweeper):
    """Minimises `objective` over the settings that have several values.

    Args:
        study: name of the study in the storage.
        storage: SQLAlchemy URL of a database, such as `sqlite:///runs/optuna.db`.
        trials: number of completed trials at which the study ends.
        max_batch_size: trials proposed and launched together; 1 for None.
        seed: of the proposals.
        params: search space and single values by setting, in the syntax of the command line.
    """

    def __init__(
        self,
        study: str,
        storage: str,
        trials: int,
        max_batch_size: int | None,
        seed: int,
        params: Any = None,
    ) -> None:
        self.name = str(study)
        self.storage = str(storage)
        self.trials = trials
        self.max_batch_size = max_batch_size
        self.seed = seed
        self.params = params

    def sweep(self, arguments: list[str]) -> None:
        """Completes the study.

        Raises:
            UserError: the sweep's settings are invalid, another process works on the study, the
                storage fails, or a trial failed.
        """
        try:
            from .search_space import search_space
            from .study import Trials, open_study, print_best, storage_errors
        except ModuleNotFoundError as error:
            raise UserError(
                f"sweep=optuna needs a package that isn't installed: {error.name}",
                fix='pip install -e ".[sweep]"',
            ) from error
        batch = at_least_one("max_batch_size", self.max_batch_size, 1) or 1
        wanted = at_least_one("trials", self.trials, 20) or 1
        overrides = self.points.parse(self.params, arguments)
        space = search_space(overrides)
        fixed = [str(o.input_line) for o in overrides if not o.is_sweep_override()]
        config = to_config(self.points.loader.load_sweep_config(self.points.config, fixed))
        check_choosing(config)
        check(config)
        with self._locked(Path(config.runs_dir)), storage_errors(self.storage):
            study = open_study(self.name, self.storage, _settings(config, overrides))
            trials = Trials(study, space, self.seed)
            trials.run(self.points, fixed, wanted, batch)
            earlier = [[*overrides, *fixed] for overrides in trials.overrides()]
        self.points.report(earlier)
        print_best(study, config, fixed, wanted)
        self.points.raise_failure()

    @contextmanager
    def _locked(self, folder: Path) -> Iterator[None]:
        """Locks the study, since trials that another process runs would look interrupted."""
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f".study-{quote(self.name, safe='')}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"another process is working on the study {self.name}",
                fix="wait for it, or begin another: hydra.sweeper.study=<name>; trials side by "
                "side are hydra.sweeper.max_batch_size with hydra/launcher=cores",
            ) from None
        try:
            yield
        finally:
            lock.release()


def _settings(config: Config, overrides: Sequence[Override]) -> dict[str, Any]:
    """Settings that all trials of a study share: run, evaluation, memory, objective and space."""
    searched = sorted(str(o.input_line) for o in overrides if o.is_sweep_override())
    return {
        **flatten(run_fields(config)),
        **flatten({"eval": eval_fields(config.eval), "memory": memory_fields(config)}),
        "objective": config.objective.name + " with memory" * config.memory.reads,
        PARAMS: searched,
    }
