"""A run's directory: paths, state and files of one run.

config.yaml      the resolved configuration
status.json      state (new, training, trained, finished), seconds by stage, the run's key
lineage.json     key of every data stage behind the run
checkpoints/     last.ckpt (resumable) and best.ckpt
model.json       sizes and ids of the model;  tokenizer/ a copy of its tokenizer
metrics.jsonl    curves; also wandb/, metrics.csv, TensorBoard files as configured
wandb.json       the run's id and project in W&B
results.json     figures;  chunks.parquet one row a scored chunk;  tokens.parquet one row a token
gain.json        analysis of the gain;  gain.png its plot
examples.json    a few scored chunks with their neighbours, shown on the page
harness.json     figures of lm-eval's tasks;  qa.json  answers to questions, and recall
index.html       the figures, plots and files of the run on one page
planted.json     ids of documents with copies in the database, and of each half of the split
injection.json   a leak experiment (eval=injection);  injection.png its plot
evaluations/     result files of other kinds of evaluation than the run's own, a folder each
databases/       result files of evaluations with another database than the run's own
checksums.json   SHA-256 of the files beside it, checked on every read; also in checkpoints/
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retro_lab.config.errors import UserError
from retro_lab.config.file_paths import located_path
from retro_lab.config.fingerprints import (
    database_key,
    eval_fields,
    evaluation_name,
    memory_fields,
    run_key,
    run_name,
    weights_fields,
)
from retro_lab.config.schema import Config, DatabaseConfig, StoreConfig
from retro_lab.config.serialise import read_config, write_config
from retro_lab.store.checksums import is_changed, recorded

from .locked_folder import LockedFolder
from .store_path import store_of

if TYPE_CHECKING:
    from torch import Tensor

LOG = logging.getLogger("retro_lab")
EVALUATION_FILE = "evaluation.json"
EVALUATIONS = "evaluations"
_FURTHER_RESULTS = (
    *("harness.json", "qa.json", "rivals.json", "rivals.parquet", "rivals_tokens.parquet"),
    *("injection.json", "injection.png", "injection.svg"),
)
"""Result files of further evaluations, removed when the weights are trained anew."""
STATES = ("new", "training", "trained", "finished")
RUN_KEY = "run_key"
"""Field of status.json and of every checkpoint with the key of the run that owns the weights."""


@dataclass(frozen=True)
class RunDirectory(LockedFolder):
    """Paths and state of one run."""

    _key: str | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, config: Config) -> RunDirectory:
        """The run directory of a configuration."""
        key = run_key(config)
        path = Path(config.runs_dir) / run_name(config, key)
        return cls(path, config.trainer.is_rank_zero, key)

    @property
    def key(self) -> str:
        """The run's key: of the configuration whose directory this is, or of its config.yaml."""
        return self._key or run_key(self.config())

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def results_file(self) -> Path:
        return self.path / "results.json"

    @property
    def chunks_file(self) -> Path:
        return self.path / "chunks.parquet"

    @property
    def tokens_file(self) -> Path:
        return self.path / "tokens.parquet"

    def for_database(self, database: DatabaseConfig) -> RunDirectory:
        """The directory for results of this run with another database."""
        folder = f"{database.name}-{database_key(database)}"
        return RunDirectory(self.path / "databases" / folder, self.is_rank_zero)

    def for_evaluation(self, asked: Config, run: RunDirectory | None = None) -> RunDirectory:
        """The directory for results of an evaluation: this one for evaluations of the own kind.

        Args:
            asked: the run's configuration, with the evaluation's settings.
            run: whose config.yaml says which kind is the own one, by default this one. A run
                without the file has no other kind; one from before plain models, any of them.
        """
        file = (run or self).config_file
        own = read_config(file, plain=asked.plain) if file.is_file() else asked
        name = evaluation_name(asked, own)
        if name is None:
            return self
        return RunDirectory(self.path / EVALUATIONS / name, self.is_rank_zero)

    @property
    def evaluations(self) -> list[RunDirectory]:
        """The directories of other kinds of evaluation that hold complete results, by name."""
        found = map(RunDirectory, sorted((self.path / EVALUATIONS).glob("*/")))
        return [folder for folder in found if folder.evaluation is not None]

    @property
    def base(self) -> RunDirectory:
        """The directory that this one's evaluation is listed in; itself unless of another kind."""
        if self.path.parent.name != EVALUATIONS or self.config_file.is_file():
            return self  # the latter in a `runs_dir` of that name
        return RunDirectory(self.path.parents[1], self.is_rank_zero)

    @property
    def with_others(self) -> list[RunDirectory]:
        """This directory of results, then those of the other evaluations of the same database."""
        others = (self.base, *self.base.evaluations)
        return [self, *(other for other in others if other.path != self.path)]

    def config(self) -> Config:
        """The configuration that the run was trained with, with its present folders.

        Raises:
            UserError: if this is no run directory.
        """
        config = read_config(self.config_file)
        if is_changed(self.config_file):
            _warn_changed(self.config_file)
        store = StoreConfig(store_of(self.path, config))
        if config.recipe.backbone is not None:  # the run's name hashes its content
            backbone = located_path(config.recipe.backbone, self.started_in)
            recipe = dataclasses.replace(config.recipe, backbone=backbone)
            config = dataclasses.replace(config, recipe=recipe)
        return dataclasses.replace(config, store=store, runs_dir=str(self.path.parent))

    @property
    def started_in(self) -> Path:
        """The folder that the run's relative paths start from, as its `runs_dir` did."""
        runs, parent = Path(read_config(self.config_file).runs_dir), self.path.absolute().parent
        above = len(parent.parts) - len(runs.parts)
        if runs.is_absolute() or parent.parts[above:] != runs.parts:
            return Path()
        return Path(*parent.parts[:above])

    @property
    def status(self) -> dict[str, Any]:
        """`state`, `seconds` by stage and, after `begin`, `run_key`.

        Raises:
            UserError: if the file is damaged.
        """
        status = self.read("status.json", dict[str, Any])
        if status is None:
            return {"state": "new", "seconds": {}}
        seconds = status.get("seconds")
        numbers = seconds.values() if isinstance(seconds, dict) else [None]
        if status.get("state") not in STATES or not all(
            isinstance(number, (int, float)) for number in numbers
        ):
            raise self.damaged("status.json", "it has no such state, or no seconds by stage")
        return status

    @property
    def state(self) -> str:
        """One of `STATES`."""
        return self.status["state"]

    def reached(self, state: str) -> bool:
        """Whether the run is in this state or a later one."""
        return STATES.index(self.state) >= STATES.index(state)

    def enter(self, state: str, **seconds: float) -> None:
        """Records a new state and the seconds of its stages."""
        status = self.status
        status |= {"state": state, "seconds": status["seconds"] | seconds}
        self.record("status.json", status)

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """Settings of the evaluation whose results are stored; None without complete results."""
        if not (self.results_file.is_file() and self.chunks_file.is_file()):
            return None
        return self.read(EVALUATION_FILE, dict[str, Any])

    def is_evaluated(self, config: Config) -> bool:
        """Whether the stored results are of this configuration's evaluation and plain model."""
        memory = memory_fields(config)
        return self.evaluation == eval_fields(config.eval, config.wanted_plain, memory)

    def is_finished(self, config: Config) -> bool:
        """Whether the run is trained, and evaluated with this configuration."""
        return self.reached("finished") and self.for_evaluation(config).is_evaluated(config)

    def forget_evaluation(self) -> None:
        """Marks the stored results as outdated or incomplete."""
        (self.path / EVALUATION_FILE).unlink(missing_ok=True)

    def record_evaluation(self, fields: dict[str, Any]) -> None:
        """Marks the stored results as complete, with the evaluation's settings."""
        self.record(EVALUATION_FILE, fields)

    def record_planted(self, plants: dict[str, Any]) -> None:
        """Records document ids: those with copies in the database, and each half of the split."""
        self.record("planted.json", plants)

    @property
    def planted(self) -> dict[str, Any] | None:
        """The record of `record_planted`; None if nothing was planted.

        Raises:
            UserError: if the file is damaged.
        """
        return self.read("planted.json", dict[str, Any])

    def begin(self, config: Config, anew: bool) -> None:
        """Records the configuration and run key before training.

        Args:
            anew: training starts at step 0, so older checkpoints and the results of every database
                are removed; else training resumes and they are kept.
        """
        if not self.is_rank_zero:
            return
        if anew:
            from retro_lab.training.checkpoint import drop_checkpoints

            self.enter("new")
            drop_checkpoints(self.path)
            for found in (self, *self._all_results()):
                found.forget_evaluation()
                for name in _FURTHER_RESULTS:
                    (found.path / name).unlink(missing_ok=True)
        self.describe(config)
        self.record("status.json", self.status | {RUN_KEY: self.key})

    def _all_results(self) -> list[RunDirectory]:
        """The directories of every other evaluation, complete or not."""
        patterns = ("databases/*/", f"{EVALUATIONS}/*/", f"databases/*/{EVALUATIONS}/*/")
        return [RunDirectory(path) for each in patterns for path in self.path.glob(each)]

    def describe(self, config: Config) -> None:
        """Makes the directory and writes config.yaml."""
        self.path.mkdir(parents=True, exist_ok=True)
        with recorded(self.config_file) as temporary:
            write_config(config, temporary)

    @property
    def lineage(self) -> dict[str, str]:
        """Key of each data stage behind the run; empty before data is recorded."""
        return self.read("lineage.json", dict[str, str]) or {}

    def check_lineage(self, lineage: dict[str, str]) -> None:
        """Records the data behind the run, or refuses data that changed since the run began.

        Raises:
            UserError: if the corpus or a stage changed.
        """
        known = self.lineage
        self._refuse([stage for stage in known if lineage.get(stage) != known[stage]], lineage)
        if lineage != known:  # keeps read-only directories usable
            self.record_lineage(lineage)

    def record_lineage(self, lineage: dict[str, str]) -> None:
        """Records the data behind an evaluation, replacing an earlier record."""
        self.record("lineage.json", lineage)

    def check_text(self, lineage: dict[str, str]) -> None:
        """Like `check_lineage` for the run's own text only, without recording.

        Args:
            lineage: of the run's own chunks.
        """
        known = {stage: keys.split("+") for stage, keys in self.lineage.items()}
        self._refuse([s for s, key in lineage.items() if key not in known.get(s, [key])], lineage)

    def _refuse(self, changed: list[str], lineage: dict[str, str]) -> None:
        if changed:
            raise UserError(
                f"the data of {self.path} changed since the run began: {', '.join(changed)} "
                f"(was {self.lineage[changed[0]]}, is {lineage.get(changed[0])})",
                fix="restore the corpus (and what else is searched, if the run has another "
                f"database), or move {self.path} away and run again",
            )

    def weights(self) -> dict[str, Tensor]:
        """The weights after the last step, so that no checkpoint was selected by its score.

        Raises:
            UserError: if the checkpoint is missing or of another configuration.
        """
        from retro_lab.training.checkpoint import LAST, checkpoint_folder, model_weights

        path = checkpoint_folder(self.path) / LAST
        if not path.is_file():
            raise UserError(f"{self.path} has no checkpoint", fix="train it first: train.py")
        trained_as = weights_fields(self.config())
        key = self.status.get(RUN_KEY)
        return model_weights(path, trained_as if key is None else trained_as | {RUN_KEY: key})


@cache
def _warn_changed(path: Path) -> None:
    """Says once that a configuration was edited, or damaged: people edit it, so it is obeyed."""
    LOG.warning(
        "%s was changed after the run wrote it; what stands there now is used. Put back a copy if "
        "nobody edited it",
        path,
    )
