"""The callable that Hydra runs for each job: checks the configuration and reports errors."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from retro_lab.config.compose import to_typed
from retro_lab.config.console import print_error
from retro_lab.config.errors import EXIT_USER_ERROR, UserError
from retro_lab.config.fingerprints import canonical
from retro_lab.config.refusals import refusal
from retro_lab.config.rules import check
from retro_lab.config.schema import SCHEMAS, Config
from retro_lab.run.directory import RunDirectory
from retro_lab.run.locked_folder import FAILURE_FILE
from retro_lab.sweeps.checks import check_place, check_point
from retro_lab.sweeps.failure import failure_recorded

FULL_ERROR = "HYDRA_FULL_ERROR"
Task = Callable[[Any], "int | float | None"]


class Reported(UserError):
    """A user error in a job of a sweep, already printed; Hydra raises it after the last job."""


class Job:
    """The callable that Hydra runs once a job, possibly in another process.

    Args:
        config_name: primary config, "train" or "evaluate".
        task: takes the typed configuration.
        before: `sys.argv` and HYDRA_FULL_ERROR as the user set them.
    """

    def __init__(self, config_name: str, task: Task, before: tuple[list[str], str | None]) -> None:
        self.config_name = config_name
        self.task = task
        self.before = before
        self.exit_code = 0
        self.began = False

    def __call__(self, root: Any) -> int | float | None:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        self.began = True
        hydra_config = HydraConfig.get()
        try:
            config = self._config(root)
            if isinstance(config, Config):
                check_place(config, hydra_config)
                if hydra_config.mode is RunMode.MULTIRUN:
                    check_point(config, hydra_config)
            argv, full_error = self.before
            with shown_process(argv, full_error), _recorded(config, hydra_config):
                result = self.task(config)
        except Exception as error:
            folder = Path(hydra_config.runtime.output_dir)
            mistake = self._mistake(error, folder)
            if mistake is None:
                raise
            if hydra_config.mode is RunMode.RUN or not (folder / FAILURE_FILE).exists():
                _discard_untouched(folder)
            if hydra_config.mode is RunMode.RUN:
                print_error(str(mistake))
                self.exit_code = EXIT_USER_ERROR
                return None
            print_error(f"in {' '.join(hydra_config.overrides.task)}: {mistake}")
            raise Reported(mistake.message, mistake.fix) from error
        if isinstance(result, int):
            self.exit_code = max(self.exit_code, result)
        return result

    def _mistake(self, error: Exception, folder: Path) -> UserError | None:
        """The error as a `UserError`; None for a bug, or under HYDRA_FULL_ERROR=1."""
        if isinstance(error, UserError):
            return error
        return None if self.before[1] == "1" else refusal(error, folder)

    def _config(self, root: Any) -> Any:
        config = to_typed(root, SCHEMAS[self.config_name])
        if isinstance(config, Config):
            check(config)
            config = canonical(config)
        return config


def _discard_untouched(folder: Path) -> None:
    """Removes a run directory that holds only the log of the error.

    The working directory, where `evaluate` writes its output, is kept.
    """
    if folder != Path.cwd() and folder.is_dir():
        _stop_logging_to(folder)
        RunDirectory(folder).discard_untouched()


def _stop_logging_to(folder: Path) -> None:
    """Removes log handlers with files in `folder`, so that later messages don't fail."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler) and (
            Path(handler.baseFilename).parent == folder.resolve()
        ):
            root.removeHandler(handler)
            handler.close()


def _recorded(config: Any, hydra_config: Any) -> AbstractContextManager[None]:
    """A context that records a failed training in the run's directory; empty for evaluations."""
    if not isinstance(config, Config) or not config.trainer.is_rank_zero:
        return nullcontext()
    run = Path(hydra_config.runtime.output_dir)
    return failure_recorded(run, list(hydra_config.overrides.task))


@contextmanager
def shown_process(argv: list[str], full_error: str | None) -> Iterator[None]:
    """A context with other values of `sys.argv` and HYDRA_FULL_ERROR.

    Hydra reads its arguments from sys.argv and raises exceptions under HYDRA_FULL_ERROR=1. The task
    needs both as the user set them, since Lightning starts further processes by repeating sys.argv.
    """
    saved = list(sys.argv), os.environ.get(FULL_ERROR)
    _set_process(argv, full_error)
    try:
        yield
    finally:
        _set_process(*saved)


def _set_process(argv: list[str], full_error: str | None) -> None:
    sys.argv[:] = argv
    if full_error is None:
        os.environ.pop(FULL_ERROR, None)
    else:
        os.environ[FULL_ERROR] = full_error
