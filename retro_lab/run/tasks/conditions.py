"""A run's models by condition, each with its source of neighbours for new text.

With a memory of suffix and topic, one more condition mixes it into the run's own model.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray

from retro_lab.config.errors import UserError
from retro_lab.config.schema import StoredRetrieverConfig
from retro_lab.evaluation.measure.conditions import REFERENCES
from retro_lab.evaluation.measure.text_memory import MemoryTextScorer
from retro_lab.evaluation.measure.text_scoring import TextScorer
from retro_lab.evaluation.tasks.greedy import GreedyWriter
from retro_lab.nn import Query
from retro_lab.nn.decode.generation import Search
from retro_lab.retrieval.new_text import NewTextSearch

from ..attached_memory import AttachedMemory
from ..compared import Compared
from ..evaluating.probes import random_retriever
from ..finished import FinishedRun
from ..model import LanguageModel, load_model

LOG = logging.getLogger("retro_lab")


class Conditions:
    """The conditions of a run: the compared models, and the run with and without retrieval.

    Args:
        run: with the requested evaluation and database.
        compared: baseline and plain model, by condition.

    Raises:
        UserError: the run's data is lost, or its retriever cannot search for new text.
    """

    def __init__(self, run: FinishedRun, compared: Compared) -> None:
        self.run, self.compared = run, compared
        self._loaded: dict[str, LanguageModel] = {}
        self._sources: dict[tuple[str, int], NewTextSearch] = {}
        _check_searches(run)
        if "knn" in run.config.memory.experts:
            LOG.warning(
                "memory=%s: other text is read without it, since knn searches states of the "
                "corpus's own; memory=suffix_topic reads any text",
                run.config.memory.name,
            )
        torch.set_num_threads(run.config.trainer.threads or torch.get_num_threads())

    @property
    def names(self) -> list[str]:
        """The conditions, in display order."""
        config = self.run.config
        memory = ["memory"] if self._reads_memory else []
        if not config.retriever.retrieves:
            return [self.own, *memory]
        probes = ["random"] if config.eval.random else []
        return [*self.compared, "off", *probes, self.own, *memory]

    @property
    def own(self) -> str:
        """The condition of the run's own model, without a memory."""
        return "on" if self.run.config.retriever.retrieves else "baseline"

    @property
    def _reads_memory(self) -> bool:
        experts = self.run.config.memory.experts
        return bool(experts) and "knn" not in experts

    @cached_property
    def _attached(self) -> AttachedMemory:
        """The run's memory without the own-document cache, which is no retrieval."""
        config = self.run.config
        return AttachedMemory(self.run, dataclasses.replace(config.memory, cache=False))

    def below(self, name: str) -> str:
        """The condition whose model and neighbours a condition has."""
        return self.own if name == "memory" else name

    def checked(self, name: str) -> str:
        """The name, if it is one of `names`.

        Raises:
            UserError: it is not.
        """
        if name not in self.names:
            raise UserError(
                f"{self.run.directory.path} has no condition {name!r}",
                fix=f"one of {', '.join(self.names)}",
            )
        return name

    def model(self, name: str) -> LanguageModel:
        """The model of a condition, in evaluation mode."""
        which = name if name in self.compared else "on"
        if which not in self._loaded:
            self._loaded[which] = self._load(which)
        return self._loaded[which]

    def _load(self, name: str) -> LanguageModel:
        run, config = self.run.directory, self.run.config
        if name in self.compared:
            run = self.compared[name]
            config = dataclasses.replace(run.config(), eval=config.eval)
        return load_model(config, run, self.run.graph)

    def source(self, name: str, k: int | None = None) -> NewTextSearch | None:
        """The search for neighbours under a condition; None without retrieval.

        Args:
            k: neighbours for each query; by default as many as the evaluation reads.
        """
        name = self.below(name)
        if name in REFERENCES:
            return None
        config = self.run.config
        k = config.scored_k if k is None else k
        if (name, k) not in self._sources:
            retriever = random_retriever(config) if name == "random" else config.retriever
            self._sources[name, k] = self.run.search(self.model("on").config, retriever, k)
        return self._sources[name, k]

    def scorer(self, name: str) -> TextScorer:
        """A scorer of text under a condition, with the windows of the run's evaluation."""
        source, config = self.source(name), self.run.config

        def search(chunks: Sequence[Sequence[int]]) -> NDArray[np.int64]:
            assert source is not None
            return source.search(chunks)[0]

        make = TextScorer
        if name == "memory":
            make = partial(MemoryTextScorer, self._attached.memory, self._attached.gate)
        return make(
            self.model(name),
            config.chunking,
            pad_id=self.run.tokenizer.pad_id,
            stride=config.scored_stride,
            batch_size=config.eval.batch_size,
            search=None if source is None else search,
        )

    def writer(self, name: str, search: Search | None = None) -> GreedyWriter:
        """A greedy writer under a condition.

        Args:
            search: in place of the condition's own search.
        """
        source, config = self.source(name) if search is None else None, self.run.config

        def own(queries: list[Query]) -> torch.Tensor:
            assert source is not None
            return torch.from_numpy(source.search([query.tokens for query in queries])[0])

        return GreedyWriter(
            self.model(name),
            self.run.tokenizer,
            window=config.chunking.sequence_length,
            batch_size=config.eval.batch_size,
            search=own if source is not None else search,
            read_out=self._attached.processor().read_out if name == "memory" else None,
        )


def _check_searches(run: FinishedRun) -> None:
    retriever = run.config.retriever
    if isinstance(retriever, StoredRetrieverConfig):
        raise UserError(
            f"retriever={retriever.name} finds neighbours of the corpus's own chunks only, so "
            f"{run.directory.path} cannot read any for other text",
            fix="evaluate its baseline, or a run whose retriever searches, such as retriever=bm25",
        )
