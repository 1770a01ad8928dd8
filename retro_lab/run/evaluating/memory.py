"""Scores of a run with a memory: the conditions, their gates, and the passes of the models.

The gates are a stage of the store that depends on the model's weights, so every evaluation of a run
fits them at most once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch

from retro_lab.config.errors import UserError
from retro_lab.config.schema import Config
from retro_lab.data.datamodule import RetroDataModule
from retro_lab.data.dataset import Batch, EvaluationData
from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.evaluation.measure.conditions import judged, label
from retro_lab.evaluation.measure.memory_scoring import (
    DocumentTexts,
    KeptEvidence,
    Mixed,
    TokenReadings,
    Variants,
    score_with_memory,
    token_readings,
)
from retro_lab.evaluation.measure.metrics import ChunkScores
from retro_lab.evaluation.measure.statistics import FEWEST
from retro_lab.memory.gate_stage import GateChoice, build_gate, fit_gate, gate_stage
from retro_lab.memory.memory import SHIPPED, FittedGate, Memory
from retro_lab.memory.readings import Readings
from retro_lab.retrieval.table import NeighbourTable
from retro_lab.store import Artifact, Stage, Workspace, track

from ..data.graph import DataGraph
from ..data.memory_nodes import memory_nodes, open_memory
from ..data.nodes import Node
from ..data.state_nodes import StateNodes, StateSource, state_nodes
from ..model import LanguageModel, weights_digest

LOG = logging.getLogger("retro_lab")
_VALIDATION_SHARE = 3
"""The gate is stopped by a validation sample of one third of its training tokens."""
FEWEST_FITTED = 3
"""Fewest training documents that a gate is fitted on."""
_FITTED_ON = ("train", "validation")


def check_gate_documents(config: Config, graph: DataGraph) -> None:
    """Refuses to fit a gate on one or two documents, which says nothing of any other text.

    Raises:
        UserError: the training split has too few documents for the memory's gate.
    """
    memory, chunks = config.memory, graph.own.chunks.data
    if not memory.reads or memory.gate == "shipped":
        return
    number = len(np.unique(chunks.document[chunks.chunks_of("train")]))
    if number < FEWEST_FITTED:
        raise UserError(
            f"memory={memory.name} fits a gate on the documents of the training split, which has "
            f"{number} of them, and {FEWEST_FITTED} are the fewest",
            fix="memory=suffix_topic memory.gate=shipped fits none, and memory=none reads none; or "
            "give the training split more documents",
        )


@dataclass(frozen=True)
class MemoryCondition:
    """A condition that reads a memory.

    Attributes:
        name: of the condition.
        base: the condition of the language model alone.
        gate: which experts are mixed into it.
        judged: whether the verdict is about it, so that its token scores need the experts' shares.
    """

    name: str
    base: str
    gate: GateChoice
    judged: bool = False


def memory_conditions(config: Config, compared: Sequence[str]) -> list[MemoryCondition]:
    """The conditions of an evaluation's memory, in scoring order.

    Args:
        compared: names of the compared models.
    """
    own = "on" if config.retriever.retrieves else "baseline"
    experts, cache = tuple(config.memory.experts), ("cache",)
    found: list[MemoryCondition] = []

    def add(base: str, name: str, families: tuple[str, ...], random: bool = False) -> None:
        found.append(MemoryCondition(name, base, GateChoice(families, random)))

    if experts:
        add(own, "memory", experts)
        if config.eval.random:
            add(own, "memory_random", experts, random=True)
        if config.eval.by_expert and len(experts) > 1 and config.memory.gate == "fitted":
            for family in experts:
                add(own, f"memory_{family}", (family,))
                rest = tuple(each for each in experts if each != family)
                if len(rest) > 1:
                    add(own, f"memory_without_{family}", rest)
    if config.memory.cache:
        add(own, "cache", cache)
        if experts:
            add(own, "memory_cache", experts + cache)
    if "plain" in compared:
        if experts:
            add("plain", "plain_memory", experts)
        if config.memory.cache:
            add("plain", "plain_cache", cache)
    about = judged(each.name for each in found)
    return [replace(each, judged=each.name == about) for each in found]


class MemoryScoring:
    """Scores of an evaluation's memory conditions over one model.

    Args:
        config: of the run, with the requested evaluation and memory.
        graph: of the run's data.
        data: its windows.
        base: the model's own condition.
        model: reads neighbours if the base is `on`.
        kept: evidence that other models of this evaluation have read.
    """

    def __init__(
        self,
        config: Config,
        graph: DataGraph,
        data: RetroDataModule,
        base: str,
        model: LanguageModel,
        kept: KeptEvidence | None = None,
    ) -> None:
        self.config, self.graph, self.data = config, graph, data
        self.base, self.model, self.kept = base, model, kept

    @cached_property
    def memory(self) -> Memory:
        """The opened memory."""
        threads = self.config.trainer.threads or torch.get_num_threads()
        return open_memory(self.graph, self.config.memory, threads, self._states)

    @property
    def nodes(self) -> list[Node[Any]]:
        """The stages that the memory reads, states of the model included."""
        return memory_nodes(self.graph, self.config.memory, self._states)

    @cached_property
    def _states(self) -> StateNodes | None:
        """The model's states of the training split, if the memory searches them."""
        if "knn" not in self.config.memory.experts:
            return None
        config = self.config
        given = self._windows("train"), self.data.stride, config.eval.batch_size
        source = StateSource(self.model, self._weights, *given, max_run=config.memory.max_run)
        return state_nodes(self.graph, source)

    @cached_property
    def _weights(self) -> str:
        return weights_digest(self.model)

    @property
    def _table(self) -> NeighbourTable | None:
        """The neighbours that the model reads."""
        return self.graph.table if self.base == "on" else None

    def scores(self, wanted: Sequence[MemoryCondition], alone: bool) -> dict[str, ChunkScores]:
        """Scores of the conditions, in one pass of the model.

        Args:
            wanted: conditions over this base.
            alone: whether to score the base condition in the same pass.
        """
        gates = self.gates(wanted)
        mixed = {
            each.name: Mixed(gates[each.name], each.gate.random, each.judged) for each in wanted
        }
        split, table = self.config.eval.split, self._table
        loader = self.data.evaluation_loader(split, table)
        texts = self._texts(split, {each.random for each in mixed.values()})
        readings = self._readings(loader, texts)
        tokens = int(Subset.whole(self.graph.chunks, *self._cut(split)).tokens.sum())
        with track(tokens, f"scoring {', '.join(map(label, mixed))}", "tokens") as advance:
            return score_with_memory(
                readings,
                {**({self.base: None} if alone else {}), **mixed},
                self.memory,
                self.graph.chunks,
                by_token=self.config.eval.wants_tokens,
                advance=advance,
            )

    def gates(self, wanted: Sequence[MemoryCondition]) -> dict[str, FittedGate]:
        """The gate of each condition: fitted, or found in the store, or the package's own.

        Raises:
            UserError: as `check_gate_documents`.
        """
        config, table = self.config, self._table
        check_gate_documents(config, self.graph)
        if config.memory.gate == "shipped":
            return dict.fromkeys((each.name for each in wanted), FittedGate.load(SHIPPED))
        fields = {
            "tokens": config.memory.gate_tokens,
            "max_run": config.memory.max_run,
            "seed": config.seed,
            "window": config.chunking.sequence_length,
            "stride": self.data.stride,
            "k": config.scored_k if table is not None else None,
        }
        parents: dict[str, Artifact | Stage] = {"chunks": self.graph.own.chunks.stage}
        parents |= {f"memory {place}": node.stage for place, node in enumerate(self.nodes)}
        if table is not None:
            parents["neighbours"] = self.graph.own_neighbours.stage
        variants = {each.gate.random for each in wanted}

        @cache
        def read(split: str) -> dict[bool, Readings]:
            share = 1 if split == "train" else _VALIDATION_SHARE
            return self._sample(split, config.memory.gate_tokens // share, variants)

        def fitted(choice: GateChoice) -> FittedGate:
            def build(workspace: Workspace) -> Mapping[str, Any]:
                training, validation = (read(split)[choice.random] for split in _FITTED_ON)
                return build_gate(choice, self.memory, training, validation, config.seed, workspace)

            drawn = {"random_seed": config.eval.seed} if choice.random else {}
            stage = gate_stage(choice, fields | drawn, parents, self._weights)
            return FittedGate.load(self.graph.store.build(stage, build).path)

        return {each.name: fitted(each.gate) for each in wanted}

    def present_gate(self) -> FittedGate:
        """The gate over all experts for the model's weights of now, which no store keeps."""
        sizes = self.config.memory.gate_tokens, self.config.memory.gate_tokens // _VALIDATION_SHARE
        training, validation = (
            self._sample(split, tokens, {False})[False]
            for split, tokens in zip(_FITTED_ON, sizes, strict=True)
        )
        families = self.memory.families
        return fit_gate(families, self.memory, training, validation, self.config.seed)[0]

    def texts(self) -> DocumentTexts:
        """The run's documents, as the memory reads them."""
        return self._texts("train", {False})[False]

    def _sample(self, split: str, tokens: int, variants: set[bool]) -> dict[bool, Readings]:
        """The readings of a random sample of a split's windows, by variant.

        Windows of many documents fit a better gate than few whole documents.
        """
        config, store = self.config, self.graph.chunks
        subset = Subset.whole(store, *self._cut(split))
        if len(subset.documents) < FEWEST:
            LOG.warning(
                "memory=%s: its gate is fitted on the %s split, which has %d documents only; give "
                "it more (corpus.split)",
                config.memory.name,
                split,
                len(subset.documents),
            )
        data = self._windows(split)
        number = min(len(data), max(1, round(tokens * len(data) / int(subset.tokens.sum()))))
        drawn = np.random.default_rng(config.seed).choice(len(data), number, replace=False)
        batches = _batches(data, np.sort(drawn).tolist(), config.eval.batch_size)
        texts = self._texts(split, variants)
        found: list[TokenReadings] = []
        what = f"reading the {split} split for the gate of {self.base}"
        with track(tokens, what, "tokens") as advance:
            for each in self._readings(batches, texts):
                found.append(each)
                advance(len(each.tokens.chunk))
        return {
            random: Readings.stacked([each.readings[random] for each in found])
            for random in variants
        }

    def _readings(self, batches: Iterable[Any], texts: Variants) -> Iterator[TokenReadings]:
        retrieval = self._table is not None
        given = self.model, batches, self.memory, texts, self.graph.chunks
        return token_readings(*given, retrieval=retrieval, kept=self.kept)

    def _texts(self, split: str, variants: set[bool]) -> dict[bool, DocumentTexts]:
        """The split's texts with their own contexts (False) and with those of others (True)."""
        store = self.graph.chunks
        database = self.graph.searched.chunks if self.config.memory.experts else store
        others = np.unique(np.asarray(store.document)[store.chunks_of(split)])
        seeds = {False: None, True: self.config.eval.seed}
        return {
            random: DocumentTexts(store, database, seeds[random], others)
            for random in sorted(variants)
        }

    def _windows(self, split: str) -> EvaluationData:
        """A split's windows, with the neighbours that the model reads."""
        config = self.config
        given = config.chunking, self._table, config.scored_k, self.data.stride
        return EvaluationData(self.graph.chunks, split, *given)

    def _cut(self, split: str) -> tuple[str, Any, int]:
        return split, self.config.chunking, self.data.stride


def _batches(data: EvaluationData, windows: list[int], size: int) -> Iterator[Batch]:
    for start in range(0, len(windows), size):
        yield data.__getitems__(windows[start : start + size])
