"""A trained run, opened from its folder: its configuration, tokenizer, model, data and search.

The folder stands alone: its tokenizer and `model.json` lie beside the weights, so that the model
can be opened without corpus and store. Whatever reads neighbours needs the store.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from retro_lab.config.errors import UserError
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
from retro_lab.store import ArtifactStore
from retro_lab.text.tokenizers import Tokenizer

from .data.graph import DataGraph
from .data.recorded import Recorded, recorded_keys
from .directory import RunDirectory
from .model import LanguageModel, open_model, open_tokenizer

_OF_OWN_TEXT = ("corpus", "tokenizer", "chunks", "embeddings")
"""Stages that are the same whatever is searched."""


@dataclass(frozen=True)
class FinishedRun:
    """A run that is trained to its end.

    Attributes:
        directory: where it lies.
        config: its configuration; with what a command asks in place of the run's own.
    """

    directory: RunDirectory
    config: Config

    @classmethod
    def open(cls, path: Path | RunDirectory, state: str = "trained") -> FinishedRun:
        """The run in a directory.

        Args:
            state: that it must have reached.

        Raises:
            UserError: it is no run, or not trained to its end.
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

    def asked(self, command: EvaluateConfig) -> FinishedRun:
        """The run with the evaluation, store and trainer of a command.

        `database` stays the run's own: `searching` takes another one.
        """
        config = dataclasses.replace(
            self.config, eval=command.eval, runs_dir=str(self.directory.path.parent)
        )
        if command.store.dir is not None:
            config = dataclasses.replace(config, store=command.store)
        if command.plain is not None:
            config = dataclasses.replace(config, plain=command.plain)
        if command.trainer is not None:
            # Precision is the run's: by it the baseline is found.
            trainer = dataclasses.replace(command.trainer, precision=config.trainer.precision)
            config = dataclasses.replace(config, trainer=trainer)
        return FinishedRun(self.directory, config)

    def searching(self, database: DatabaseConfig | None) -> FinishedRun:
        """The run with another database; itself where that is its own, or none is given.

        Raises:
            UserError: the run searches nothing.
        """
        if database is None:
            return self
        if not self.config.retriever.retrieves:
            raise UserError(
                f"database={database.name}: {self.directory.path} is a baseline, it searches "
                "nothing",
                fix="leave database out, or give a run with a retriever",
            )
        other = canonical(dataclasses.replace(self.config, database=database)).database
        if database_key(other) == database_key(canonical(self.config).database):
            return self
        config = dataclasses.replace(self.config, database=other)
        return FinishedRun(self.directory, config)

    @cached_property
    def out(self) -> RunDirectory:
        """Where results lie: apart where another database than the run's own is searched."""
        own = self.directory.config().database
        if database_key(self.config.database) == database_key(own):
            return self.directory
        return self.directory.searching(self.config.database)

    @cached_property
    def graph(self) -> DataGraph:
        """The data, found by the keys of the run's lineage wherever the raw text is.

        What another database adds to the run's own text is read anew.
        """
        config, run = self.config, self.directory
        store = ArtifactStore(Path(config.store.dir))
        keys = recorded_keys(store, run.lineage)
        own = located(config, run.started_in)
        if self.out is not run:
            own = dataclasses.replace(own, database=config.database)
            keys = {role: keys[role] for role in keys.keys() & _OF_OWN_TEXT}
        return DataGraph(own, Recorded(run.path, store, keys))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The run's own copy; from the store for a run of before there were copies."""
        return open_tokenizer(self.directory) or self.graph.tokenizer.data

    def model(self) -> LanguageModel:
        """The trained model, in evaluation mode.

        Raises:
            UserError: there is no checkpoint, or one of another model or vocabulary.
        """
        return open_model(self.config, self.directory, self.tokenizer)

    def search(
        self, model: RetroConfig, retriever: RetrieverConfig | None = None, k: int | None = None
    ) -> NewTextSearch:
        """The run's search, for text that is not in the store.

        Args:
            model: that reads what is found.
            retriever: in place of the run's own; a random one draws by the text that asks.
            k: neighbours found; as many as the evaluation reads unless given.

        Raises:
            UserError: the retriever cannot search for new text.
        """
        k = self.config.scored_k if k is None else k
        return self.graph.search(retriever or self.config.retriever, model, k)

    def results(self) -> Results:
        """The figures of its evaluation."""
        return Results.load(self.out.results_file)
