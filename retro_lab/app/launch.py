"""Runs a command under Hydra: composition, run directory, multirun, and errors without tracebacks.

The task sees dataclasses, never OmegaConf; a user's mistake is one message and exit code 2.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from retro_lab.config.checks import check
from retro_lab.config.compose import compose_root
from retro_lab.config.console import print_error
from retro_lab.config.errors import EXIT_USER_ERROR, UserError, refusal
from retro_lab.config.explain import explain
from retro_lab.config.fingerprints import canonical
from retro_lab.config.paths import conf_dir
from retro_lab.config.register import register
from retro_lab.config.schema import Config
from retro_lab.config.schema.catalogue import SCHEMAS
from retro_lab.config.secrets import refuse_passwords
from retro_lab.config.terminal import interrupted
from retro_lab.config.typed import to_typed
from retro_lab.config.uncomposed import uncomposed

from .run_directory import LOCK_FILE

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
        with _process([sys.argv[0], *map(_added, argv)], full_error="1"):
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
            if hydra_config.mode is RunMode.MULTIRUN and isinstance(config, Config):
                _refuse_processes(config, hydra_config)
            argv, full_error = self.before
            with _process(argv, full_error):
                result = self.task(config)
        except UserError as error:
            _discard_untouched(Path(hydra_config.runtime.output_dir))
            if hydra_config.mode is RunMode.RUN:
                print_error(str(error))
                self.exit_code = EXIT_USER_ERROR
                return None
            print_error(f"in {' '.join(hydra_config.overrides.task)}: {error}")
            raise _Reported(error.message, error.fix) from error
        if isinstance(result, int):
            self.exit_code = max(self.exit_code, result)
        return result

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
    if folder == Path.cwd():
        return
    traces = [folder / name for name in ("run.log", LOCK_FILE)]
    if folder.is_dir() and not set(folder.iterdir()) - set(traces):
        _stop_logging_to(folder)
        for trace in traces:
            trace.unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()


def _stop_logging_to(folder: Path) -> None:
    """Takes away the handlers whose files are about to go; else the next message would fail."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler) and (
            Path(handler.baseFilename).parent == folder.resolve()
        ):
            root.removeHandler(handler)
            handler.close()


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
