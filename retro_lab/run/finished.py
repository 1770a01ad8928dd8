"""A trained run, opened from its folder: its configuration, tokenizer, model, data and search.

The folder holds a copy of the tokenizer beside the weights, so the model can be opened without
corpus and store. Retrieval needs the store.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from retro_lab.config.errors import ConfigError, UserError, problem
from retro_lab.config.file_paths import located
from retro_lab.config.fingerprints import canonical, database_key
from retro_lab.config.schema import (
    Config,
    DatabaseConfig,
    EvaluateConfig,
    RetrieverConfig,
)
from retro_lab.evaluation.records.results import Results
from retro_lab.nn import RetroConfig
from retro_lab.retrieval.new_text import NewTextSearch
from retro_lab.retrieval.service.served_index import ServedIndex
from retro_lab.store import ArtifactStore
from retro_lab.text.tokenizers import Tokenizer

from .data.graph import DataGraph
from .data.recorded import Recorded, recorded_keys
from .directory import RunDirectory
from .model import LanguageModel, open_model, open_tokenizer
from .text_search import text_search

_OWN_TEXT_STAGES = ("corpus", "tokenizer", "chunks", "embeddings")
"""Stages that don't depend on the database."""


@dataclass(frozen=True)
class FinishedRun:
    """A fully trained run.

    Attributes:
        directory: its run directory.
        config: its configuration, with settings of a command in place of the run's own.
    """

    directory: RunDirectory
    config: Config

    @classmethod
    def open(cls, path: Path | RunDirectory, state: str = "trained") -> FinishedRun:
        """The run in a directory.

        Args:
            state: that the run must have reached.

        Raises:
            UserError: the directory holds no run, or the run has not reached `state`.
        """
        run = path if isinstance(path, RunDirectory) else RunDirectory(path)
        config = run.config()
        if not run.reached(state):
            what = "trained to its end" if state == "trained" else state
            raise UserError(
                f"{run.path} is not {what}: its state is {run.state!r}",
                fix="run the train.py command again; it resumes",
            )
        return cls(run, config)

    def with_command(self, command: EvaluateConfig) -> FinishedRun:
        """The run with a command's evaluation, store, plain model and trainer settings.

        The database stays the run's own; `with_database` replaces it.

        Raises:
            ConfigError: a setting of training is given.
        """
        if command.memory is not None and command.memory.joint:
            rule = "this run is trained already, and an evaluation trains no model"
            fix = "leave it out; or train.py with it, which makes another run"
            raise ConfigError([problem("memory.joint", command.memory.joint, rule, fix)])
        config = dataclasses.replace(
            self.config, eval=command.eval, runs_dir=str(self.directory.path.parent)
        )
        if command.store.dir is not None:
            config = dataclasses.replace(config, store=command.store)
        if command.memory is not None:
            config = dataclasses.replace(config, memory=command.memory)
        if command.plain is not None:
            config = dataclasses.replace(config, plain=command.plain)
        if command.trainer is not None:
            # The baseline's run name depends on both, so the run's own are kept.
            own = {"precision": config.trainer.precision, "extra": config.trainer.extra}
            trainer = dataclasses.replace(command.trainer, **own)
            config = dataclasses.replace(config, trainer=trainer)
        return FinishedRun(self.directory, config)

    def with_database(self, database: DatabaseConfig | None) -> FinishedRun:
        """The run with another database; the run itself for None or its own database.

        Raises:
            UserError: the run has no retrieval.
        """
        if database is None:
            return self
        if not self.config.retriever.retrieves and not self.config.memory.experts:
            raise UserError(
                f"database={database.name}: {self.directory.path} is a baseline, it searches "
                "nothing",
                fix="leave database out, give a run with a retriever, or memory=suffix_topic",
            )
        other = canonical(dataclasses.replace(self.config, database=database)).database
        if database_key(other) == database_key(canonical(self.config).database):
            return self
        config = dataclasses.replace(self.config, database=other)
        return FinishedRun(self.directory, config)

    @cached_property
    def out(self) -> RunDirectory:
        """The database's directory: the run's own, or one below it for another database."""
        own = self.directory.config().database
        if database_key(self.config.database) == database_key(own):
            return self.directory
        return self.directory.for_database(self.config.database)

    @cached_property
    def results_in(self) -> RunDirectory:
        """The directory of this evaluation's results: `out`, or one below it for another kind."""
        return self.out.for_evaluation(self.config, self.directory)

    @cached_property
    def graph(self) -> DataGraph:
        """The data, found in the store by the keys of the run's lineage.

        Another database's corpora are identified from their raw text.
        """
        config, run = self.config, self.directory
        store = ArtifactStore(Path(config.store.dir))
        keys = recorded_keys(store, run.lineage)
        own = located(config, run.started_in)
        if self.out is not run:
            own = dataclasses.replace(own, database=config.database)
            keys = {role: keys[role] for role in keys.keys() & _OWN_TEXT_STAGES}
        return DataGraph(own, Recorded(run.path, store, keys))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The run's copy of the tokenizer; older runs without a copy use the store's."""
        return open_tokenizer(self.directory) or self.graph.tokenizer.data

    def model(self) -> LanguageModel:
        """The trained model, in evaluation mode.

        Raises:
            UserError: the checkpoint is missing, or of another model or vocabulary.
        """
        return open_model(self.config, self.directory, self.tokenizer)

    def search(
        self, model: RetroConfig, retriever: RetrieverConfig | None = None, k: int | None = None
    ) -> NewTextSearch:
        """The run's search, for queries of new text.

        Args:
            model: configuration of the model that reads the neighbours.
            retriever: in place of the run's own.
            k: neighbours for each query; by default as many as the evaluation reads.

        Raises:
            UserError: the retriever cannot search for new text.
        """
        k = self.config.scored_k if k is None else k
        return self.graph.search(retriever or self.config.retriever, model, k)

    def text_search(self) -> ServedIndex:
        """The run's index, searched by text.

        Raises:
            UserError: the run has no retriever or an HTTP one, or its data is lost.
        """
        return text_search(self.graph, self.tokenizer, str(self.directory.path))

    def results(self) -> Results:
        """The results of the run's own kind of evaluation."""
        return Results.load(self.out.results_file)
