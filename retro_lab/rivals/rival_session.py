"""Resources that all rivals of one run share: text, baseline, FLOPs and store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, cast

from retro_lab.config.schema import Config, RetrieverConfig, RivalsConfig
from retro_lab.evaluation.compressors.outcome import Outcome, stored_or_computed
from retro_lab.evaluation.compressors.subset import Subset, Subsets
from retro_lab.nn import Retro, RetroConfig
from retro_lab.nn.flops import count_flops
from retro_lab.run.backbone import with_backbone
from retro_lab.run.compared import Compared
from retro_lab.run.data.graph import DataGraph
from retro_lab.run.directory import RunDirectory
from retro_lab.run.model import LanguageModel, load_model, retro_config, weights_digest
from retro_lab.run.timing import Stopwatch
from retro_lab.store import Artifact

from .matched import parameters


class RivalSession:
    """Resources for scoring the rivals of one run.

    Args:
        config: of the run, with the requested evaluation.
        graph: the run's data.
        runs: run by condition, of `baseline`, whose states and distributions some rivals use, of
            `plain` if there is one, and of `on` with retrieval.
        watch: collects the seconds.

    Attributes:
        asked: requested rivals and their tuning grids.
        batch: windows a forward pass.
        weights: digest of the baseline's weights, by name.
        text: training, tuning and scored text.
    """

    def __init__(self, config: Config, graph: DataGraph, runs: Compared, watch: Stopwatch) -> None:
        self.config, self.graph, self.runs, self.watch = config, graph, runs, watch
        self.asked: RivalsConfig = config.eval.rivals
        self.batch = config.eval.batch_size
        self.model = self.load(runs["baseline"])
        self.weights = {"baseline": weights_digest(self.model)}
        self.text = Subsets.of(
            graph.chunks,
            config.eval.split,
            config.chunking,
            config.scored_stride,
            config.eval.seed,
            self.asked,
        )

    def load(self, run: RunDirectory) -> LanguageModel:
        """A run's model."""
        return load_model(run.config(), run, self.graph)

    @property
    def retro_baseline(self) -> Retro:
        """The baseline, for rivals that the rules refuse beside a backbone."""
        return cast(Retro, self.model)

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
        return retro_config(with_backbone(self.config), chunks.vocab_size, chunks.pad_id)

    def sizes(self, run: RunDirectory, model: RetroConfig) -> tuple[int, dict[str, int]]:
        """Learned parameters of a run's model, and its FLOPs a token where they are counted.

        Args:
            model: its configuration, unless it has a backbone, whose parts it does not describe.
        """
        if self.config.recipe.backbone is None:
            return parameters(model), {"flops_per_token": self.flops(model)}
        return num_parameters(self.load(run)), {}

    def flops(self, model: RetroConfig) -> int:
        """FLOPs a token of a forward pass."""
        window = self.config.chunking.sequence_length
        return count_flops(model, 1, window, self.config.neighbours.k).forward // window

    def index_bytes(self, retriever: RetrieverConfig) -> int:
        """Bytes on disk of a retriever's index of the database."""
        return size_of(self.graph.index(retriever).artifact)


def num_parameters(model: LanguageModel) -> int:
    """Number of learned parameters."""
    return sum(weight.numel() for weight in model.parameters())


def size_of(artifact: Artifact) -> int:
    """Bytes of an artifact's files."""
    return sum(int(file["size"]) for file in artifact.manifest["files"].values())
