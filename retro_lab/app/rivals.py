"""`evaluate.py run=... eval=rivals`: tunes rivals on validation, scores them on the run's tokens.

Every outcome is a stage in the store, keyed by text, settings and weights, and the baselines of
equal size are runs: what was interrupted goes on, and what is there is not done again.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from dataclasses import asdict
from functools import partial
from typing import Any, cast

from retro_lab.artifacts import Artifact
from retro_lab.baselines import knn_lm, ngram, ralm, report, xz
from retro_lab.baselines.datastore import (
    Datastore,
    build_index,
    build_states,
    index_stage,
    states_stage,
)
from retro_lab.baselines.ground import Ground, Grounds
from retro_lab.baselines.matched import Match, matched, parameters
from retro_lab.baselines.outcome import Outcome, Tuning, bits_per_byte, kept, lowest
from retro_lab.baselines.report import Board, Entry
from retro_lab.baselines.states import plain_nats, weights_digest
from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import eval_fields, has_retrieval, run_key
from retro_lab.config.schema import (
    Bm25RetrieverConfig,
    Config,
    Method,
    RivalsConfig,
    resolve_stride,
)
from retro_lab.evaluation.chunk_table import ChunkTable
from retro_lab.evaluation.conditions import label
from retro_lab.evaluation.environment import environment
from retro_lab.evaluation.results import Results
from retro_lab.evaluation.run_page import write_run_page
from retro_lab.nn import Retro
from retro_lab.nn.flops import count_flops
from retro_lab.retrieval.index_stage import build_index as build_search
from retro_lab.retrieval.registry import load_retriever

from .build import retro_config
from .matched_runs import matched_config, train_match
from .run_data import Prepared
from .run_directory import RunDirectory
from .scores import load_model
from .timing import Stopwatch

LOG = logging.getLogger("retro_lab")
LABELS = {
    "knn_lm": "kNN-LM",
    "equal_parameters": "equal params",
    "equal_flops": "equal FLOPs",
    "ngram": "byte n-gram",
    "xz": "xz",
}


def run_rivals(
    config: Config,
    run: RunDirectory,
    prepared: Prepared,
    baseline: RunDirectory | None,
    watch: Stopwatch,
) -> None:
    """Writes rivals.json and rivals.parquet beside the run's results, and the page that links them.

    Args:
        config: of the run, with the evaluation asked for.
        run: evaluated, so that chunks.parquet is there.
        baseline: whose states and distributions kNN-LM and RALM use.

    Raises:
        UserError: a run without retrieval or without its baseline, or too few documents.
    """
    if not has_retrieval(config):
        raise UserError(
            f"{run.path} has no retrieval, and rivals are compared with RETRO",
            fix="evaluate a run with retrieval; its baseline is one of the rivals",
        )
    if baseline is None:
        raise UserError(
            f"the baseline of {run.path} is missing, and kNN-LM and RALM are made of it",
            fix="run the train.py command again; it trains the baseline",
        )
    model = _load(baseline.config(), baseline, prepared)
    session = _Session(config, prepared, model, watch)
    entries = session.own_entries(run, baseline)
    for name in config.eval.rivals.which:
        with watch.stage(name):
            entries += getattr(session, name)()
    board = Board(session.text.test, session.text.subsample, ChunkTable.load(run.chunks_file))
    report.save(run.path, board, entries, session.about(run))
    write_run_page(Results.load(run.results_file), run.path)


def _load(config: Config, run: RunDirectory, prepared: Prepared) -> Retro:
    """A model of our own: the rules refuse rivals of a pretrained backbone."""
    return cast(Retro, load_model(config, run, prepared))


class _Session:
    """What all rivals of one run share: text, baseline, documents and store."""

    def __init__(self, config: Config, prepared: Prepared, model: Retro, watch: Stopwatch) -> None:
        self.config, self.prepared, self.model, self.watch = config, prepared, model, watch
        self.asked: RivalsConfig = config.eval.rivals
        self.batch = config.eval.batch_size
        self.store = prepared.pipeline.store
        self.chunks = prepared.pipeline.chunks
        self.weights = {"baseline": weights_digest(model)}
        self.text = Grounds.of(
            prepared.chunks,
            config.eval.split,
            config.chunking,
            resolve_stride(config.eval, config.chunking),
            config.eval.seed,
            self.asked,
        )

    def own_entries(self, run: RunDirectory, baseline: RunDirectory) -> list[Entry]:
        """RETRO and its baseline, from chunks.parquet; their seconds are those of training."""
        table = ChunkTable.load(run.chunks_file)
        retro = self._retro()
        before = baseline.status["seconds"].get("training", 0.0)
        seconds = {"baseline": before, "on": run.status["seconds"].get("training", 0.0)}
        if self.config.recipe.method is Method.retrofit:
            seconds["on"] += before
        index = _size(self.store.get(self.prepared.pipeline.index(self.config.retriever)))
        entries = []
        for name, model in (("on", retro), ("baseline", retro.baseline)):
            if name not in table.nats:
                raise UserError(
                    f"{run.chunks_file} has no figures of {label(name)}",
                    fix="evaluate the run again with its baseline in place",
                )
            outcome = Outcome.by_chunk(
                self.text.test,
                table.nats[name],
                tuning=Tuning(),
                seconds=round(seconds[name], 1),
                parameters=parameters(model),
                datastore_bytes=index if name == "on" else 0,
                facts={"flops_per_token": self._flops(model)},
            )
            entries.append(Entry(name, label(name), self.text.test, outcome))
        return entries

    def knn_lm(self) -> list[Entry]:
        """kNN-LM over the training split, by the baseline's states."""
        settings = asdict(self.asked.knn_lm)
        outcome = self._kept("knn_lm", self.text.test, settings, self.weights, self._score_knn_lm)
        return [Entry("knn_lm", LABELS["knn_lm"], self.text.test, outcome)]

    def _score_knn_lm(self) -> Outcome:
        config, batch = self.asked.knn_lm, self.batch
        stage = states_stage(self.chunks, self.text.training, self.weights["baseline"])
        states = self.store.build(
            stage, lambda w: build_states(self.model, self.text.training, batch, w)
        )
        index = self.store.build(
            index_stage(stage, config), lambda w: build_index(states, config, w)
        )
        datastore = Datastore(states, index, config.nprobe)
        tuning = knn_lm.tune(self.model, datastore, self.text.tuning, config, batch)
        outcome = knn_lm.score(self.model, datastore, self.text.test, tuning, batch)
        building = states.manifest["seconds"] + index.manifest["seconds"]
        return _with_seconds(outcome, building + tuning.seconds, **index.stats)

    def ralm(self) -> list[Entry]:
        """A rival for each stride; small ones are scored and tuned on less text."""
        entries = []
        for stride in sorted(self.asked.ralm.strides, reverse=True):
            ground, tuning = self.text.for_stride(stride)
            name = f"ralm_{stride}"
            config = self._bm25()
            settings = {
                "stride": stride,
                "query_lengths": self.asked.ralm.query_lengths,
                "continuations": self.asked.ralm.continuations,
                "k1": config.k1,
                "b": config.b,
            }
            score = partial(self._score_ralm, stride, ground, tuning)
            outcome = self._kept(name, ground, settings, self.weights, score, tuning)
            entries.append(Entry(name, f"RALM s={stride}", ground, outcome))
        return entries

    def _score_ralm(self, stride: int, ground: Ground, tuned_on: Ground) -> Outcome:
        config, asked = self._bm25(), self.asked.ralm
        index = self.store.build(
            self.prepared.pipeline.index(config),
            lambda w: build_search(config, self.prepared.chunks, None, w),
        )
        retriever = load_retriever(config, index.path)
        tuning = ralm.tune(
            self.model,
            retriever,
            tuned_on,
            stride,
            asked.query_lengths,
            asked.continuations,
            self.batch,
        )
        outcome = ralm.score(self.model, retriever, ground, stride, tuning, self.batch)
        outcome = dataclasses.replace(outcome, datastore_bytes=_size(index))
        return _with_seconds(outcome, tuning.seconds, tuned_on_documents=len(tuned_on.documents))

    def _bm25(self) -> Bm25RetrieverConfig:
        own = self.config.retriever
        return own if isinstance(own, Bm25RetrieverConfig) else Bm25RetrieverConfig(name="bm25")

    def equal_parameters(self) -> list[Entry]:
        """A plain language model of as many parameters as RETRO."""
        return self._matched("equal_parameters", matched(self._retro(), parameters))

    def equal_flops(self) -> list[Entry]:
        """A plain language model of as many FLOPs a token as RETRO."""
        return self._matched("equal_flops", matched(self._retro(), self._flops))

    def _matched(self, name: str, match: Match) -> list[Entry]:
        """Trains a run for each learning rate; the one that validation chooses is scored."""
        factors = self.asked.matched.lr_factors
        runs = {
            factor: train_match(
                matched_config(self.config, name, match, factor), self.prepared, self.watch
            )
            for factor in factors
        }
        models = {f: _load(run.config(), run, self.prepared) for f, run in runs.items()}
        inputs = {f"{factor:g}": weights_digest(model) for factor, model in models.items()}

        def score() -> Outcome:
            start = time.perf_counter()
            tried = []
            for factor, model in models.items():
                nats = plain_nats(model, self.text.tuning, self.batch)
                tried.append(({"lr_factor": factor}, bits_per_byte(self.text.tuning, nats)))
            tuning = lowest(tried, start)
            model = models[tuning.chosen["lr_factor"]]
            training = sum(r.status["seconds"].get("training", 0.0) for r in runs.values())
            return Outcome.by_chunk(
                self.text.test,
                plain_nats(model, self.text.test, self.batch),
                tuning=tuning,
                seconds=round(training + time.perf_counter() - start, 1),
                parameters=parameters(model.config),
                facts={
                    "run": runs[tuning.chosen["lr_factor"]].path.name,
                    "flops_per_token": self._flops(model.config),
                    "match": match.arithmetic,
                },
            )

        outcome = self._kept(name, self.text.test, {"lr_factors": factors}, inputs, score)
        return [Entry(name, LABELS[name], self.text.test, outcome)]

    def ngram(self) -> list[Entry]:
        """A PPM-like byte n-gram of the training split and the document so far."""
        corpus, config = self.prepared.corpus, self.asked.ngram

        def score() -> Outcome:
            tuning = ngram.tune(corpus, self.text.training, self.text.tuning, config)
            outcome = ngram.score(corpus, self.text.training, self.text.test, tuning)
            return _with_seconds(outcome, tuning.seconds)

        outcome = self._kept("ngram", self.text.test, asdict(config), {}, score)
        return [Entry("ngram", LABELS["ngram"], self.text.test, outcome)]

    def xz(self) -> list[Entry]:
        """xz after it has read the training split."""
        corpus = self.prepared.corpus
        outcome = self._kept(
            "xz",
            self.text.test,
            {},
            {},
            lambda: xz.score(corpus, self.text.training, self.text.test),
        )
        return [Entry("xz", LABELS["xz"], self.text.test, outcome)]

    def about(self, run: RunDirectory) -> dict[str, Any]:
        """What all rows of rivals.json have in common."""
        evaluation, ids = self.config.eval, self.prepared.corpus.ids

        def named(ground: Ground) -> dict[str, Any]:
            return {
                "split": ground.split,
                "documents": [ids[d] for d in ground.documents.tolist()],
                "tokens": int(ground.tokens.sum()),
                "bytes": int(ground.bytes.sum()),
            }

        return {
            "run_key": run_key(self.config),
            "evaluation": eval_fields(evaluation),
            "settings": asdict(self.asked),
            "environment": environment(),
            "bootstrap": {
                "samples": evaluation.bootstrap_samples,
                "confidence": evaluation.confidence,
                "seed": evaluation.seed,
            },
            "window": self.config.chunking.sequence_length,
            "stride": self.text.test.stride,
            "scored": named(self.text.test),
            "tuned_on": named(self.text.tuning),
            "subsample": named(self.text.subsample) | {"seed": evaluation.seed},
            "run": str(run.path),
        }

    def _kept(
        self,
        name: str,
        ground: Ground,
        settings: Any,
        inputs: Any,
        score: Any,
        tuning: Ground | None = None,
    ) -> Outcome:
        tuning = tuning or self.text.tuning
        return kept(self.store, name, self.chunks, ground, tuning, settings, inputs, score)

    def _retro(self) -> Any:
        chunks = self.prepared.chunks
        return retro_config(self.config, chunks.vocab_size, chunks.pad_id)

    def _flops(self, model: Any) -> int:
        window = self.config.chunking.sequence_length
        return count_flops(model, 1, window, self.config.neighbours.k).forward // window


def _with_seconds(outcome: Outcome, seconds: float, **facts: Any) -> Outcome:
    """The outcome with what was spent before it was scored."""
    total = round(outcome.seconds + seconds, 1)
    return dataclasses.replace(outcome, seconds=total, facts=outcome.facts | facts)


def _size(artifact: Artifact | None) -> int:
    """Bytes of an artifact's files."""
    if artifact is None:
        return 0
    return sum(int(file["size"]) for file in artifact.manifest["files"].values())
