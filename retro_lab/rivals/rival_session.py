"""Resources that all rivals of one run share: text, baseline, FLOPs and store."""

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
from retro_lab.run.model import load_model, retro_config, weights_digest
from retro_lab.run.timing import Stopwatch


class RivalSession:
    """Resources for scoring the rivals of one run.

    Args:
        config: of the run, with the requested evaluation.
        graph: the run's data.
        baseline: the run's baseline, whose states and distributions some rivals use.
        watch: collects the seconds.

    Attributes:
        asked: requested rivals and their tuning grids.
        batch: windows a forward pass.
        weights: digest of the baseline's weights, by name.
        text: training, tuning and scored text.
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
        """A run's model, always a `Retro`, since the rules refuse rivals of a backbone."""
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
        """The stored or computed outcome, tuned on the session's tuning text by default."""
        chunks = self.graph.own.chunks.stage
        tuned_on = tuned_on or self.text.tuning
        return stored_or_computed(
            self.graph.store, name, chunks, subset, tuned_on, settings, inputs, score
        )

    @cached_property
    def retro(self) -> RetroConfig:
        """The configuration of the run's model."""
        chunks = self.graph.chunks
        return retro_config(self.config, chunks.vocab_size, chunks.pad_id)

    def flops(self, model: RetroConfig) -> int:
        """FLOPs a token of a forward pass."""
        window = self.config.chunking.sequence_length
        return count_flops(model, 1, window, self.config.neighbours.k).forward // window
