"""Runs a command under Hydra: composition, run directory, multirun, and errors without tracebacks.

The task sees dataclasses, never OmegaConf; a user's mistake is one message and exit code 2.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from retro_lab.config.compose import compose_root, register, to_typed
from retro_lab.config.console import interrupted, print_error
from retro_lab.config.errors import EXIT_USER_ERROR, UserError, refuse_passwords
from retro_lab.config.explain import explain, uncomposed
from retro_lab.config.fingerprints import canonical
from retro_lab.config.keys import conf_dir
from retro_lab.config.refusals import refusal
from retro_lab.config.rules import check, check_choosing
from retro_lab.config.schema import SCHEMAS, Config
from retro_lab.config.text_keys import as_typed
from retro_lab.run.directory import FAILURE_FILE, RunDirectory
from retro_lab.sweeps.failure import failure_recorded

_HELP = {"--help", "-h"}
_FULL_ERROR = "HYDRA_FULL_ERROR"
# Launchers that start all processes of a job themselves. Under the others Lightning starts them
# by repeating the command line, which under multirun would start the whole sweep again.
_STARTS_PROCESSES = ("slurm", "submitit_slurm")

Task = Callable[[Any], "int | float | None"]


def run(config_name: str, task: Task, argv: Sequence[str]) -> int:
    """Composes `conf/<config_name>.yaml` with the arguments and runs the task, once a job.

    Args:
        config_name: a primary config, "train" or "evaluate".
        task: takes the typed configuration, checked and canonical. An `int` it returns is an
            exit code; a `float` is the objective for sweepers such as Optuna's.
        argv: arguments without the program's name, Hydra's flags included.

    Returns:
        Exit code: 0, the largest that a job returned, 2 for a user's mistake, 130 when
        interrupted. Other exceptions pass through.
    """
    import hydra

    register()
    _register_sweepers()
    if not _HELP.isdisjoint(argv):
        # Hydra's own --help lists every schema and takes seconds to do so.
        print(compose_root(config_name).hydra.help.template)
        return 0
    job = _Job(config_name, task, (list(sys.argv), os.environ.get(_FULL_ERROR)))
    command = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(
        job
    )
    try:
        refuse_passwords(argv)
        with _process([sys.argv[0], *map(_added, as_typed(argv))], full_error="1"):
            command()
    except KeyboardInterrupt as error:
        return interrupted(error)
    except Exception as error:
        mistake = explain(error) or refusal(error)
        if mistake is None and not job.began and not isinstance(error, OSError):
            mistake = uncomposed(error, config_name, argv)
        if mistake is None or os.environ.get(_FULL_ERROR) == "1":
            raise
        if not isinstance(mistake, _Reported):
            print_error(str(mistake))
        return EXIT_USER_ERROR
    return job.exit_code


def _register_sweepers() -> None:
    """Makes our sweepers known to Hydra, GridSweeper in place of its own basic one."""
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    from retro_lab.sweeps.grid_sweeper import GridSweeper
    from retro_lab.sweeps.optuna_sweeper import OptunaSweeper

    known = Plugins.instance().class_name_to_class
    for sweeper in (GridSweeper, OptunaSweeper):  # Hydra takes plugins of this namespace only
        known[f"hydra_plugins.retro_lab.{sweeper.__name__}"] = sweeper
    grid = {"_target_": "hydra_plugins.retro_lab.GridSweeper", "max_batch_size": None, "params": {}}
    ConfigStore.instance().store("basic", grid, group="hydra/sweeper", provider="retro_lab")


class _Reported(UserError):
    """A mistake in a job of a sweep, printed at the time; Hydra raises it when all are done."""


class _Job:
    """The task as Hydra calls it, once a job, perhaps in another process."""

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
                _check_place(config, hydra_config)
                if hydra_config.mode is RunMode.MULTIRUN:
                    _check_point(config, hydra_config)
            argv, full_error = self.before
            with _process(argv, full_error), _recorded(config, hydra_config):
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
            raise _Reported(mistake.message, mistake.fix) from error
        if isinstance(result, int):
            self.exit_code = max(self.exit_code, result)
        return result

    def _mistake(self, error: Exception, folder: Path) -> UserError | None:
        """What a person can do something about; None for a bug, and for who wants tracebacks."""
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
    """Removes a run directory in which nothing was written but the log of the mistake.

    The working directory, where `evaluate` has its output, is not ours to remove.
    """
    if folder != Path.cwd() and folder.is_dir():
        _stop_logging_to(folder)
        RunDirectory(folder).discard_untouched()


def _stop_logging_to(folder: Path) -> None:
    """Takes away the handlers whose files are about to go; else the next message would fail."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler) and (
            Path(handler.baseFilename).parent == folder.resolve()
        ):
            root.removeHandler(handler)
            handler.close()


def _recorded(config: Any, hydra_config: Any) -> AbstractContextManager[None]:
    """Notes in the run's directory why a training failed; an evaluation has no such place."""
    if not isinstance(config, Config) or not config.trainer.is_rank_zero:
        return nullcontext()
    run = Path(hydra_config.runtime.output_dir)
    return failure_recorded(run, list(hydra_config.overrides.task))


def _check_place(config: Config, hydra_config: Any) -> None:
    """Refuses a directory for Hydra that isn't the run's own, which depends on its settings."""
    given, own = Path(hydra_config.runtime.output_dir), RunDirectory.of(config).path
    if own.resolve() != given.resolve():
        raise UserError(
            f"hydra.run.dir and hydra.sweep.dir don't move a run: {given} isn't {own}, the "
            "directory named after its settings",
            fix="leave them out; runs_dir=<folder> puts all runs elsewhere",
        )


def _check_point(config: Config, hydra_config: Any) -> None:
    _refuse_processes(config, hydra_config)
    if hydra_config.runtime.choices["hydra/sweeper"] != "basic":
        check_choosing(config)


def _refuse_processes(config: Config, hydra_config: Any) -> None:
    launcher = hydra_config.runtime.choices["hydra/launcher"]
    trainer = config.trainer
    if trainer.devices * trainer.num_nodes > 1 and launcher not in _STARTS_PROCESSES:
        point = " ".join(hydra_config.overrides.task)
        raise UserError(
            f"trainer.devices={trainer.devices} trainer.num_nodes={trainer.num_nodes}: a sweep "
            f"cannot start several processes a job under hydra/launcher={launcher}",
            fix=f"run each point by itself: python train.py {point}\n"
            "       (the same directories, so a sweep goes on from there), "
            "or take hydra/launcher=slurm",
        )


def _added(argument: str) -> str:
    """`eval.files.<task>=` with the sign by which Hydra takes a key that is not there yet."""
    return f"++{argument}" if argument.startswith("eval.files.") else argument


@contextmanager
def _process(argv: list[str], full_error: str | None) -> Iterator[None]:
    """Sets what the process shows of itself; restored afterwards.

    Hydra reads its arguments from sys.argv and lets exceptions through under HYDRA_FULL_ERROR=1;
    the task must find both as the user set them, because Lightning starts further processes by
    repeating sys.argv.
    """
    saved = list(sys.argv), os.environ.get(_FULL_ERROR)
    _set_process(argv, full_error)
    try:
        yield
    finally:
        _set_process(*saved)


def _set_process(argv: list[str], full_error: str | None) -> None:
    sys.argv[:] = argv
    if full_error is None:
        os.environ.pop(_FULL_ERROR, None)
    else:
        os.environ[_FULL_ERROR] = full_error
