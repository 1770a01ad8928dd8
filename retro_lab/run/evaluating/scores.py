"""Scores of a run by condition, all on the same tokens; stored scores are reused.

Stored scores are reused if run, data, windows and neighbours are the same; a model runs only for
the other conditions. Probe conditions scored by an earlier evaluation stay in the files.
"""

from __future__ import annotations

import dataclasses
import logging
from contextlib import nullcontext

import numpy as np

from retro_lab.config.errors import UserError
from retro_lab.config.schema import Config
from retro_lab.config.serialise import to_plain
from retro_lab.data.datamodule import RetroDataModule
from retro_lab.evaluation.measure.conditions import (
    REFERENCES,
    WITHOUT_POINTER,
    label,
    reads_memory,
)
from retro_lab.evaluation.measure.memory_scoring import KeptEvidence
from retro_lab.evaluation.measure.metrics import ChunkScores
from retro_lab.evaluation.measure.scoring import score, without_pointer
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.results import Results
from retro_lab.evaluation.records.token_table import TokenTable
from retro_lab.retrieval.filters.shuffled import shuffle_neighbours
from retro_lab.retrieval.table import NeighbourTable, check_coverage
from retro_lab.store import track

from ..compared import Compared
from ..data.graph import DataGraph
from ..data.memory_nodes import memory_lineage
from ..directory import RunDirectory
from ..model import LanguageModel, load_model
from .memory import MemoryScoring, memory_conditions
from .probes import oracle_retriever, random_retriever
from .table_rows import condition_scores, neighbours_read, same_neighbours, scored_rows

LOG = logging.getLogger("retro_lab")
PROBES = {
    "random": "random",
    "shuffled": "shuffled",
    "oracle": "oracle",
    "filtered": "max_run",
    WITHOUT_POINTER: "without_pointer",
}
"""The field of `eval` that turns each probe condition on. Probes read other neighbours than
RETRO[ON], or read without the pointer."""
SEEDED = ("random", "shuffled", "memory_random")
OF_PLAIN = ("plain", "plain_memory", "plain_cache")


def conditions(config: Config, compared: Compared) -> list[str]:
    """The conditions that an evaluation scores, in scoring order."""
    if not config.retriever.retrieves:
        return ["baseline"]
    probes = [name for name, setting in PROBES.items() if getattr(config.eval, setting)]
    if not config.recipe.pointer and WITHOUT_POINTER in probes:
        probes.remove(WITHOUT_POINTER)
    return ["on", "off", *probes, *compared]


class Scoring:
    """The scores of one evaluation of a run, read from files or computed.

    Args:
        config: of the run, with the requested evaluation and database.
        run: directory with the weights.
        out: result directory, which may hold scores; differs from `run` for another database or
            kind of evaluation.
        graph: of the run's data.
        data: its windows.
        compared: baseline and plain model, scored on the same tokens.
    """

    def __init__(
        self,
        config: Config,
        run: RunDirectory,
        out: RunDirectory,
        graph: DataGraph,
        data: RetroDataModule,
        compared: Compared,
    ) -> None:
        self.config, self.run, self.out, self.graph = config, run, out, graph
        self.data, self.compared = data, compared

    def scores(self) -> dict[str, ChunkScores]:
        """Nats by chunk for each condition, and by token if requested or stored.

        Stored probes that this evaluation leaves out come last.

        Raises:
            UserError: the run or a compared run has no checkpoint, the model's loss is not finite,
                or too few neighbours pass the filter of a probe.
        """
        wanted = conditions(self.config, self.compared)
        own, held = self._valid_stored()
        found = {name: own[name] for name in PROBES if name in own}
        found |= {name: held[name] for name in wanted if name in held}
        missing = [n for n in wanted if n not in found or not self._suffices(found[n])]
        if read := [name for name in wanted if name not in missing]:
            LOG.info("scores read from %s: %s", self.run.path, ", ".join(read))
        # Data of all conditions first, so that errors appear before a model runs.
        for name in self.compared.keys() & set(missing):
            self.compared[name].check_text(self.graph.text_lineage)
        tables = {name: self._neighbours(name) for name in missing}
        model = None
        alone = self.config.memory.reads and missing == ["baseline"]
        for name in missing if not alone else ():
            if name in self.compared:
                found[name] = self._compared_scores(name, found["on"])
                continue
            model = model or load_model(self.config, self.run, self.graph)
            with without_pointer(model) if name == WITHOUT_POINTER else nullcontext():
                found[name] = self._score(model, tables[name], name)
        found |= self._memory_scores(held, alone)
        return {name: found[name] for name in (*wanted, *found)}

    def _memory_scores(self, held: dict[str, ChunkScores], alone: bool) -> dict[str, ChunkScores]:
        """Scores of the memory's conditions, read from the files if these have all of a model.

        Args:
            alone: also score the baseline, in the same pass of its model.
        """
        wanted = memory_conditions(self.config, list(self.compared))
        found: dict[str, ChunkScores] = {}
        kept = KeptEvidence()
        for base in dict.fromkeys(condition.base for condition in wanted):
            over = [condition for condition in wanted if condition.base == base]
            read = {
                c.name: held[c.name]
                for c in over
                if c.name in held and self._suffices(held[c.name], c.judged)
            }
            if len(read) == len(over) and not alone:
                found |= read
            else:
                given = self.config, self.graph, self.data, base, self._model(base), kept
                found |= MemoryScoring(*given).scores(over, alone)
        return found

    def _model(self, condition: str) -> LanguageModel:
        if condition not in self.compared:
            return load_model(self.config, self.run, self.graph)
        other = self.compared[condition]
        return load_model(other.config(), other, self.graph)

    def _valid_stored(self) -> tuple[dict[str, ChunkScores], dict[str, ChunkScores]]:
        """Stored scores that are valid for this evaluation, by condition.

        Returns:
            Those of this kind of evaluation, and those of every kind.
        """
        key = self.run.key
        own, *others = (
            self._stored(self.config, folder, key, self.graph.retrieves)
            for folder in self.out.with_others
        )
        held = dict(own)
        for name, scores in [pair for other in others for pair in other.items()]:
            if name not in held or not self._suffices(held[name], _has_shares(scores)):
                held[name] = scores
        if "off" not in held:
            folders = self.run.with_others  # OFF reads no database
            without = [self._stored(self.config, each, key, reads=False) for each in folders]
            found = [scores["off"] for scores in without if "off" in scores]
            held |= {"off": max(found, key=self._suffices)} if found else {}
        return own, held

    def _suffices(self, scores: ChunkScores, shares: bool = False) -> bool:
        """Whether scores by token are present, and what a memory gave to them, if requested."""
        if not self.config.eval.wants_tokens:
            return True
        each = scores.by_token
        return each is not None and (each.memory is not None or not shares)

    def _neighbours(self, condition: str) -> NeighbourTable | None:
        """The neighbours that the model reads under a condition; None without retrieval."""
        if condition in REFERENCES:
            return None
        graph, asked = self.graph, self.config.eval
        assert graph.table is not None
        if condition == "random":
            return graph.neighbours(random_retriever(self.config)).data
        if condition == "oracle":
            return graph.neighbours(oracle_retriever()).data
        if condition == "shuffled":
            return shuffle_neighbours(graph.table, graph.chunks, asked.split, asked.seed)
        if condition == "filtered":
            return _filtered(self.config, graph)
        return graph.table

    def _score(self, model: LanguageModel, table: NeighbourTable | None, what: str) -> ChunkScores:
        loader = self.data.evaluation_loader(self.config.eval.split, table)
        chunks = self.graph.chunks
        windows = len(loader.dataset)  # pyright: ignore[reportArgumentType]
        # Scored alone every model without retrieval is a baseline, a plain one too.
        shown = label(what) if self.config.retriever.retrieves else "the model"
        with track(windows, f"scoring {shown}", "windows") as advance:
            return score(
                model,
                loader,
                chunks.num_chunks,
                chunk_size=chunks.chunk_size,
                pad_id=chunks.pad_id,
                retrieval=table is not None,
                by_token=self.config.eval.wants_tokens,
                advance=advance,
            )

    def _same_memory(self, results: Results) -> bool:
        """Whether stored results are of the present memory, of the same text."""
        asked, known = to_plain(self.config.memory), results.memory
        trained_for = {"joint": asked["joint"]}  # part of the run, not of the memory that is read
        return (
            known is not None
            and results.config.get("memory", {}) | trained_for == asked
            and known.lineage == memory_lineage(self.graph, self.config.memory)
        )

    def _compared_scores(self, name: str, same_tokens: ChunkScores) -> ChunkScores:
        """A compared run's scores, from its files if they cover the same tokens, else computed."""
        other = self.compared[name]
        own = dataclasses.replace(other.config(), eval=self.config.eval)
        for folder in other.with_others:
            stored = self._stored(own, folder, other.key, reads=False).get("baseline")
            if (
                stored is not None
                and self._suffices(stored)
                and np.array_equal(stored.tokens, same_tokens.tokens)
            ):
                return stored
        return self._score(load_model(own, other, self.graph), None, name)

    def _stored(
        self, config: Config, run: RunDirectory, key: str, reads: bool
    ) -> dict[str, ChunkScores]:
        """Scores stored in a directory, by condition; empty if data, split or neighbours differ.

        Args:
            config: of the scored run.
            run: the directory.
            key: of the scored run.
            reads: whether the scores depend on neighbours, or on the run's own text alone.
        """
        if run.evaluation is None:
            return {}
        try:
            results, table = Results.load(run.results_file), ChunkTable.load(run.chunks_file)
            tokens = TokenTable.load(run.tokens_file) if run.tokens_file.is_file() else None
        except UserError as error:
            LOG.warning("%s; it is scored anew", error.message)
            return {}
        graph, settings = self.graph, results.evaluation
        lineage = graph.lineage if reads else graph.text_lineage
        known = {stage: results.lineage.get(stage) for stage in lineage}
        same = (
            results.run_key == key
            and known == lineage
            and (not reads or len(known) == len(results.lineage))
            and (settings.split, settings.stride) == (config.eval.split, self.data.stride)
        )
        rows = scored_rows(graph.chunks, config.eval.split)
        if not same or len(rows) != len(table):
            return {}
        if reads:
            assert graph.table is not None
            k = config.scored_k
            read = neighbours_read(graph.chunks, graph.table.ids, rows, k)
            if not same_neighbours(read, table.neighbours):
                return {}
        names = list(table.nats)
        plain = self.compared.get("plain")
        asked_for = None if plain is None else plain.key
        if results.plain is None or results.plain.run_key != asked_for:
            names = [name for name in names if name not in OF_PLAIN]
        if results.config["eval"]["seed"] != config.eval.seed:
            names = [name for name in names if name not in SEEDED]
        if not self._same_memory(results):
            names = [name for name in names if not reads_memory(name)]
        asked = config.scored_max_run
        if asked not in (None, settings.max_run):
            names = [name for name in names if name != "filtered"]
        return {name: condition_scores(table, tokens, name, rows, graph.chunks) for name in names}


def _has_shares(scores: ChunkScores) -> bool:
    """Whether the scores say what a memory gave to each token."""
    return scores.by_token is not None and scores.by_token.memory is not None


def _filtered(config: Config, graph: DataGraph) -> NeighbourTable:
    """The run's neighbours filtered by `eval.max_run`; further candidates fill the free slots.

    Raises:
        UserError: too few candidates in the scored split.
    """
    evaluation = config.eval
    filters = graph.stricter_filters(config.scored_max_run)
    node = graph.neighbours(config.retriever, filters)
    filled = {"filled": {evaluation.split: node.artifact.stats["filled"][evaluation.split]}}
    k = config.scored_k
    try:
        check_coverage(filled, k, config.neighbours.min_coverage)
    except UserError as error:
        raise UserError(
            f"eval.max_run={evaluation.max_run}: {error.message}",
            fix="raise eval.max_run, or leave it out with eval.max_run=null",
        ) from error
    return node.data
