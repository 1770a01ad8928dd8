"""What all rivals of one run share: its text and baseline, what a model costs, and the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, cast

from retro_lab.config.schema import Config, RivalsConfig
from retro_lab.evaluation.compressors.outcome import Outcome, stored_or_computed
from retro_lab.evaluation.compressors.subset import Subset, Subsets
from retro_lab.nn import Retro, RetroConfig
from retro_lab.nn.flops import count_flops
from retro_lab.run.data.graph import DataGraph
from retro_lab.run.directory import RunDirectory
from retro_lab.run.model import load_model, retro_config
from retro_lab.run.timing import Stopwatch

from .states import weights_digest


class RivalSession:
    """One run whose rivals are scored.

    Args:
        config: of the run, with the evaluation asked for.
        graph: the run's data.
        baseline: its baseline, whose states and distributions some rivals use.
        watch: collects the seconds.

    Attributes:
        asked: which rivals, and what is tried when each is tuned.
        batch: windows a forward pass.
        weights: digest of the baseline's, for outcomes that depend on them.
        text: what rivals learn from, are tuned on and are scored on.
    """

    def __init__(
        self, config: Config, graph: DataGraph, baseline: RunDirectory, watch: Stopwatch
    ) -> None:
        self.config, self.graph, self.watch = config, graph, watch
        self.asked: RivalsConfig = config.eval.rivals
        self.batch = config.eval.batch_size
        self.model = self.load(baseline)
        self.weights = {"baseline": weights_digest(self.model)}
        self.text = Subsets.of(
            graph.chunks,
            config.eval.split,
            config.chunking,
            config.scored_stride,
            config.eval.seed,
            self.asked,
        )

    def load(self, run: RunDirectory) -> Retro:
        """A model of our own: the rules refuse rivals of a pretrained backbone."""
        return cast(Retro, load_model(run.config(), run, self.graph))

    def kept(
        self,
        name: str,
        subset: Subset,
        settings: Mapping[str, Any],
        inputs: Mapping[str, str],
        score: Callable[[], Outcome],
        tuned_on: Subset | None = None,
    ) -> Outcome:
        """As `stored_or_computed`, tuned on the session's own validation text unless told."""
        chunks = self.graph.own.chunks.stage
        tuned_on = tuned_on or self.text.tuning
        return stored_or_computed(
            self.graph.store, name, chunks, subset, tuned_on, settings, inputs, score
        )

    @cached_property
    def retro(self) -> RetroConfig:
        """The run's own model."""
        chunks = self.graph.chunks
        return retro_config(self.config, chunks.vocab_size, chunks.pad_id)

    def flops(self, model: RetroConfig) -> int:
        """Of a forward pass, by scored token."""
        window = self.config.chunking.sequence_length
        return count_flops(model, 1, window, self.config.neighbours.k).forward // window
