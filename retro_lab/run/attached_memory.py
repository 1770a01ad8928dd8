"""The memory of a finished run in `generate` of transformers.

    memory = AttachedMemory("runs/smollm2-none-...")
    processor = memory.processor()
    written = model.generate(ids, logits_processor=[processor])
    memory.sources(processor, written[0])

The model is the run's own, exported, or the backbone of a run without retrieval.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from retro_lab.config.errors import ConfigError, UserError
from retro_lab.config.schema import MemoryConfig
from retro_lab.config.schema.setting import own_problems
from retro_lab.memory.database_experts import DatabaseExperts
from retro_lab.memory.folder import write_memory
from retro_lab.memory.gate_stage import GateChoice
from retro_lab.memory.logits_processor import Leaning, MemoryLogitsProcessor
from retro_lab.memory.memory import SHIPPED, FittedGate, Memory

from .data.memory_nodes import open_memory, topics_node
from .evaluating.memory import MemoryCondition, MemoryScoring
from .finished import FinishedRun
from .model import build_data, load_model

if TYPE_CHECKING:
    from torch import Tensor

_AROUND = 12  # tokens of a snippet on either side of the token


@dataclass(frozen=True)
class Source:
    """What a written token leans on.

    Attributes:
        token: its text.
        share: part of its probability that the memory gave; None outside the generated text.
        match: tokens before it that agree with those before its places in the database.
        snippets: text around some of these places, by document id.
    """

    token: str
    share: float | None
    match: int
    snippets: dict[str, str]


class AttachedMemory:
    """The memory of a finished run.

    Args:
        run: its directory, or the opened run.
        memory: in place of the run's own.

    Raises:
        UserError: the run is not finished, or reads no memory that `generate` can read.
    """

    def __init__(self, run: str | Path | FinishedRun, memory: MemoryConfig | None = None) -> None:
        run = run if isinstance(run, FinishedRun) else FinishedRun.open(Path(run))
        if memory is not None:
            run = dataclasses.replace(run, config=dataclasses.replace(run.config, memory=memory))
        self.run, asked = run, run.config.memory
        if problems := list(own_problems(asked, "memory.")):
            raise ConfigError(problems)
        if not asked.experts or "knn" in asked.experts:
            raise UserError(
                f"memory={asked.name}: generate reads suffix and topic, with or without the cache, "
                f"and {run.directory.path} has other evidence, or none",
                fix='AttachedMemory(path, MemoryConfig(experts=["suffix", "topic"]))',
            )

    @cached_property
    def memory(self) -> Memory:
        """The opened memory."""
        config = self.run.config
        threads = config.trainer.threads or torch.get_num_threads()
        return open_memory(self.run.graph, config.memory, threads)

    @cached_property
    def gate(self) -> FittedGate:
        """The package's gate, or the one that an evaluation of the run fits; found in the store."""
        config, graph = self.run.config, self.run.graph
        if config.memory.gate == "shipped":
            return FittedGate.load(SHIPPED)
        base = "on" if config.retriever.retrieves else "baseline"
        model = load_model(config, self.run.directory, graph)
        families = (*config.memory.experts, *(["cache"] if config.memory.cache else []))
        wanted = MemoryCondition("attached", base, GateChoice(families))
        scoring = MemoryScoring(config, graph, build_data(config, graph), base, model)
        return scoring.gates([wanted])[wanted.name]

    def processor(self, pad_id: int | None = None) -> MemoryLogitsProcessor:
        """A logits processor for one call of `generate` after the other.

        Args:
            pad_id: fills the rows of a batch on the left; None if nothing does.
        """
        boundary = self.run.graph.searched.chunks.boundary_id
        return MemoryLogitsProcessor(self.memory, self.gate, boundary, pad_id=pad_id)

    def write(self, folder: Path) -> None:
        """Writes the memory into a new folder, from which it is read without the run."""
        if self.run.config.memory.cache:
            raise UserError(
                "memory.cache=true: the own document is no part of a memory that is written",
                fix="memory.cache=false",
            )
        [kind] = self.memory.kinds
        assert isinstance(kind, DatabaseExperts)
        graph = self.run.graph
        topics = None if kind.topics is None else topics_node(graph, graph.searched).artifact.path
        write_memory(folder, kind.reader, topics, self.gate, graph.searched.corpus.ids)

    def sources(
        self, processor: MemoryLogitsProcessor, ids: Tensor, last: int = 16, most: int = 3
    ) -> list[Source]:
        """What the last tokens of a generated text lean on.

        Args:
            processor: that it was generated with.
            ids: [N], a row of what `generate` returned.
            last: how many tokens.
            most: documents a token.
        """
        return [self._source(leaning, most) for leaning in processor.sources(ids, last)]

    def _source(self, leaning: Leaning, most: int) -> Source:
        chunks, corpus = self.run.graph.searched.chunks, self.run.graph.searched.corpus
        snippets: dict[str, str] = {}
        for place in leaning.occurrences.places.tolist():
            document = int(chunks.document[place // chunks.chunk_size])
            if len(snippets) < most:
                snippets.setdefault(corpus.ids[document], self._snippet(document, place))
        token = self.run.tokenizer.decode([leaning.token])
        return Source(token, leaning.share, leaning.occurrences.match, snippets)

    def _snippet(self, document: int, place: int) -> str:
        """Text around a flat place, within its document."""
        chunks = self.run.graph.searched.chunks
        first, last = chunks.first_chunk[document : document + 2] * chunks.chunk_size
        part = slice(max(int(first) + 1, place - _AROUND), min(int(last), place + _AROUND + 1))
        tokens = np.asarray(chunks.tokens).reshape(-1)[part]
        return self.run.tokenizer.decode(tokens[tokens != chunks.pad_id].tolist())
