"""Runs a command under Hydra: composition, run directory, multirun, and errors without tracebacks.

The task gets dataclasses in place of OmegaConf; a user error is one message and exit code 2.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from retro_lab.config.completion import asked_for, completions
from retro_lab.config.compose import compose_root, register
from retro_lab.config.console import interrupted, print_error
from retro_lab.config.errors import EXIT_USER_ERROR, refuse_passwords
from retro_lab.config.explain import explain, uncomposed
from retro_lab.config.keys import conf_dir, refuse_reserved
from retro_lab.config.overrides import for_hydra
from retro_lab.config.refusals import refusal
from retro_lab.config.wrapping import show

from .job import FULL_ERROR, Job, Reported, Task, shown_process

_HELP = {"--help", "-h"}


def run(config_name: str, task: Task, argv: Sequence[str]) -> int:
    """Composes `conf/<config_name>.yaml` with the arguments and runs the task, once a job.

    Args:
        config_name: a primary config, "train" or "evaluate".
        task: takes the typed configuration, checked and canonical. Returns an exit code (`int`) or
            the objective for a sweeper such as Optuna (`float`).
        argv: arguments without the program's name, including Hydra's flags.

    Returns:
        Exit code: the largest of the jobs' (0 by default), 2 for a user error, 130 when
        interrupted. Other exceptions are raised.
    """
    if asked_for(argv):
        print(" ".join(completions()))
        return 0
    import hydra

    from retro_lab.sweeps.register import register_sweepers

    register()
    register_sweepers()
    if not _HELP.isdisjoint(argv):
        # Hydra's own --help takes seconds to list every schema.
        show(compose_root(config_name).hydra.help.template, sys.stdout)
        return 0
    job = Job(config_name, task, (list(sys.argv), os.environ.get(FULL_ERROR)))
    command = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(
        job
    )
    try:
        refuse_passwords(argv)
        refuse_reserved(argv)
        with shown_process([sys.argv[0], *for_hydra(argv)], full_error="1"):
            command()
    except KeyboardInterrupt as error:
        return interrupted(error)
    except Exception as error:
        mistake = explain(error, argv) or refusal(error)
        if mistake is None and not job.began and not isinstance(error, OSError):
            mistake = uncomposed(error, config_name, argv)
        if mistake is None or os.environ.get(FULL_ERROR) == "1":
            raise
        if not isinstance(mistake, Reported):
            print_error(str(mistake))
        return EXIT_USER_ERROR
    return job.exit_code
