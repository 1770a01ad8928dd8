"""An Optuna study: its storage, its trials and their results.

Repeating the command resumes the study: first interrupted trials, then failed ones, then new ones
until enough are complete. Each proposal depends only on the seed, its number and the earlier
trials, so an interrupted study makes the same proposals as an uninterrupted one.
"""

from __future__ import annotations

import json
import logging
import math
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from hydra.core.utils import JobReturn
from optuna.distributions import BaseDistribution
from optuna.exceptions import OptunaError
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import differing
from retro_lab.config.schema import Config

from .launching import Points, failure_of
from .search_space import as_overrides

LOG = logging.getLogger("retro_lab")
RUN, SETTINGS = "run", "settings"  # user attributes of a trial and of a study


def open_study(name: str, storage: str, settings: dict[str, Any]) -> optuna.Study:
    """The study of this name, new or stored.

    Raises:
        UserError: the stored study has other settings.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        study_name=name, storage=storage, direction="minimize", load_if_exists=True
    )
    known = study.user_attrs.get(SETTINGS)
    if known is None:
        study.set_user_attr(SETTINGS, json.dumps(settings))
    elif changed := differing(json.loads(known), settings):
        raise UserError(
            f"the study {name} was begun with other settings: {'; '.join(changed)}",
            fix="give the same command, or begin another: hydra.sweeper.study=<name>",
        )
    return study


class Trials:
    """Proposes and runs a study's trials.

    Args:
        space: distribution of each searched key.
        seed: of the proposals.
    """

    def __init__(self, study: optuna.Study, space: dict[str, BaseDistribution], seed: int) -> None:
        self.study = study
        self.space = space
        self.seed = seed

    def run(self, points: Points, fixed: Sequence[str], wanted: int, batch: int) -> None:
        """Runs trials in batches until `wanted` are complete; repeats earlier failed ones once.

        Stops early if a trial fails before any trial of the study is complete.
        """
        due = wanted - len(self._in(TrialState.COMPLETE))
        interrupted, failed = self._interrupted(), self._failed()
        while due > 0:
            count = min(batch, due)
            numbers = []
            for _ in range(count):
                trial = interrupted.pop(0) if interrupted else self._ask(failed)
                [point] = points.plan([[*as_overrides(trial.params), *fixed]])
                if isinstance(trial, Trial):
                    trial.set_user_attr(RUN, point.run)
                numbers.append(trial.number)
            for number, job in zip(numbers, points.launch(count), strict=True):
                self._tell(number, job)
            due -= count
            if points.failures and not self._in(TrialState.COMPLETE):
                LOG.warning("the study stops here: a trial failed and none has been completed yet")
                return

    def overrides(self) -> list[list[str]]:
        """What each trial that has a run directory sets, of earlier commands as well."""
        return [as_overrides(t.params) for t in self.study.trials if RUN in t.user_attrs]

    def _ask(self, failed: list[dict[str, Any]]) -> Trial:
        """A new trial, with the next failed values if there are any."""
        if failed:
            self.study.enqueue_trial(failed.pop(0))
        # A new seed for each trial, so that a resumed study does not repeat its first draws.
        self.study.sampler = TPESampler(seed=self.seed + len(self.study.trials))
        return self.study.ask(self.space)

    def _interrupted(self) -> list[FrozenTrial]:
        """Trials that began without a recorded result; their runs will be resumed."""
        found = []
        for trial in self._in(TrialState.RUNNING):
            if RUN in trial.user_attrs:
                found.append(trial)
            else:  # interrupted before its run was recorded
                self.study.tell(trial.number, state=TrialState.FAIL)
        return found

    def _failed(self) -> list[dict[str, Any]]:
        """Distinct values whose every trial failed."""
        found: list[dict[str, Any]] = []
        others = [t.params for t in self._in(TrialState.COMPLETE, TrialState.RUNNING)]
        for trial in self._in(TrialState.FAIL):
            if RUN in trial.user_attrs and trial.params not in [*others, *found]:
                found.append(trial.params)
        return found

    def _tell(self, number: int, job: JobReturn) -> None:
        value = None if failure_of(job) else job.return_value
        if isinstance(value, float) and math.isfinite(value):
            self.study.tell(number, value)
            return
        if isinstance(value, float):
            LOG.warning("trial %d: the objective is %s; it counts as failed", number, value)
        self.study.tell(number, state=TrialState.FAIL)

    def _in(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states)


def print_best(study: optuna.Study, config: Config, fixed: Sequence[str], wanted: int) -> None:
    """Prints the best trial, and the command that scores it on the test split.

    Args:
        fixed: overrides of every trial.
    """
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    print(f"study   {study.study_name}: {len(complete)} of {wanted} trials are complete")
    if not complete:
        return
    best = study.best_trial
    values = " ".join(f"{key}={_short(value)}" for key, value in best.params.items())
    print(f"best    {config.objective.name} {best.value:.4f} on {config.eval.split}: {values}")
    print("        chosen by this figure, which is therefore no estimate; once, at the end:")
    run = Path(config.runs_dir) / best.user_attrs[RUN]
    given = [*fixed, *as_overrides(best.params)]
    memory = [override for override in given if override.startswith(("memory=", "memory."))]
    if memory and not any(override.startswith("memory=") for override in memory):
        memory = [f"memory={config.memory.name}", *memory]
    command = ["python", "evaluate.py", f"run={run}", "eval=leakage", "eval.split=test", *memory]
    print(f"        {shlex.join(command)}")


@contextmanager
def storage_errors(storage: str) -> Iterator[None]:
    """A context that converts errors of the storage to `UserError`."""
    try:
        yield
    except (OptunaError, SQLAlchemyError) as error:
        said = next(iter(str(error.__cause__ or error).strip().splitlines()), "")
        raise UserError(
            f"hydra.sweeper.storage={storage} cannot be used: {said}",
            fix="make room and permission there, or name another database, such as "
            "hydra.sweeper.storage=sqlite:///study.db; finished runs are not run again",
        ) from error


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
