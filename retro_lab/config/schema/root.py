"""The whole configuration, as dataclasses; YAML under conf/ fills it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from .chunking import ChunkingConfig
from .corpus import CorpusConfig
from .database import DatabaseConfig
from .embedder import EmbedderConfig
from .evaluation import EvalConfig
from .logger import LoggerConfig
from .memory import MemoryConfig
from .model import CcaConfig, ModelConfig
from .neighbours import NeighboursConfig
from .optim import OptimConfig, ScheduleConfig
from .own_part import CallbacksConfig
from .recipe import Method, PlainConfig, PlainMatch, RecipeConfig
from .retriever import RetrieverConfig
from .setting import setting
from .tokenizer import TokenizerConfig
from .trainer import PrepareConfig, TrainerConfig


@dataclass
class StoreConfig:
    """Where prepared data is kept.

    Attributes:
        dir: folder of the stages; the environment variable RETRO_LAB_STORE sets the default.
    """

    dir: str = "runs/.store"


class Objective(Enum):
    """Bits per byte that an optimiser minimises, over all chunks of the evaluated split: `bpb` is
    the run's own, with its memory; `gain` is that minus the plain model, negative if reading helps.
    """

    bpb = "bpb"
    gain = "gain"


@dataclass
class Config:
    """One run.

    Attributes:
        callbacks: of Lightning or the user's own; they see every training of the run.
        plain: the model without retrieval that a gain is measured against.
        memory: evidence from the database that an evaluation mixes into the trained model.
        objective: quantity that `sweep=optuna` and other optimisers minimise; changes no run.
        baseline: `auto` trains a missing shared baseline; null leaves out baseline and plain model.
        resume: `auto` resumes from the last checkpoint; null starts again.
        seed: seed of initialisation, data order and dropout.
        runs_dir: parent of run directories.
        verbose: whether the terminal shows the whole verdict, and not only its three lines.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    cca: CcaConfig = field(default_factory=CcaConfig)
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    chunking: ChunkingConfig = field(default_factory=ChunkingConfig)
    neighbours: NeighboursConfig = field(default_factory=NeighboursConfig)
    retriever: RetrieverConfig = MISSING
    embedder: EmbedderConfig = MISSING
    tokenizer: TokenizerConfig = MISSING
    corpus: CorpusConfig = MISSING
    database: DatabaseConfig = field(default_factory=DatabaseConfig)
    optim: OptimConfig = MISSING
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    callbacks: CallbacksConfig = setting(CallbacksConfig(), neutral=CallbacksConfig())
    logger: LoggerConfig = setting(LoggerConfig(), identity=False)
    eval: EvalConfig = setting(EvalConfig(), identity=False)
    store: StoreConfig = setting(StoreConfig(), identity=False)
    prepare: PrepareConfig = setting(PrepareConfig(), identity=False)
    plain: PlainConfig = setting(PlainConfig(), identity=False)
    memory: MemoryConfig = setting(MemoryConfig(), identity=False)
    baseline: str | None = setting("auto", choices=("auto", None))
    resume: str | None = setting("auto", choices=("auto", None), identity=False)
    objective: Objective = setting(Objective.bpb, identity=False)
    seed: int = setting(1, at_least=0)
    runs_dir: str = setting("runs", identity=False)
    verbose: bool = setting(False, identity=False)

    @property
    def is_retrofit(self) -> bool:
        """Whether retrieval is grafted onto a trained model in a second phase of training."""
        return self.retriever.retrieves and self.recipe.method is Method.retrofit

    @property
    def is_backbone_alone(self) -> bool:
        """Whether the run is an unchanged pretrained model, a baseline that is only evaluated."""
        recipe = self.recipe
        trained = self.retriever.retrieves or recipe.further_steps > 0
        return recipe.backbone is not None and not trained

    @property
    def cca_layers(self) -> tuple[int, ...]:
        """Decoder layers with CCA, counted from 1, sorted; none without retrieval."""
        return self.cca.placed(self.model.num_layers) if self.retriever.retrieves else ()

    @property
    def may_end_early(self) -> bool:
        """Whether a training may end before its last step, by early stopping or a limit of time."""
        return self.callbacks.early_stopping is not None or "max_time" in self.trainer.extra

    @property
    def wanted_plain(self) -> PlainConfig | None:
        """How the plain model is matched; None if unwanted or impossible to train.

        A run that may end early has none, since nobody knows beforehand how much text it reads.
        """
        alone = not self.retriever.retrieves or self.baseline is None or self.may_end_early
        return None if alone or self.plain.match is PlainMatch.none else self.plain

    @property
    def scored_k(self) -> int:
        """Neighbours that a scored chunk reads: `eval.k`, or `neighbours.k` if null."""
        return self.neighbours.k if self.eval.k is None else self.eval.k

    @property
    def scored_max_run(self) -> int | None:
        """Shortest run that RETRO[filtered] drops: the smaller of `eval.max_run` and the run's own.

        None if `eval.max_run` is null.
        """
        own, of_run = self.eval.max_run, self.neighbours.max_run
        return own if own is None or of_run is None else min(own, of_run)

    @property
    def scored_stride(self) -> int:
        """Tokens between evaluation windows: `eval.stride`, by default half a window."""
        if self.eval.stride is not None:
            return self.eval.stride
        num_chunks = self.chunking.sequence_length // self.chunking.chunk_size
        return max(1, num_chunks // 2) * self.chunking.chunk_size


@dataclass
class RunStoreConfig:
    """Where a finished run's prepared data is.

    Attributes:
        dir: folder of the stages; null takes the store used in training.
    """

    dir: str | None = None


@dataclass
class EvaluateConfig:
    """An evaluation of a finished run; all other settings come from the run.

    Attributes:
        run: path of a run directory, or a list of paths to compare.
        database: searched instead of the run's own; null searches the run's.
        plain: the model that a gain is measured against; null takes the run's.
        memory: read at every token; null takes the run's.
        trainer: hardware to evaluate on; null takes the run's. Precision stays the run's.
        verbose: whether the terminal shows the whole verdict, and not only its three lines.
    """

    run: Any = MISSING
    eval: EvalConfig = field(default_factory=EvalConfig)
    database: DatabaseConfig | None = None
    plain: PlainConfig | None = None
    memory: MemoryConfig | None = None
    trainer: TrainerConfig | None = None
    store: RunStoreConfig = field(default_factory=RunStoreConfig)
    verbose: bool = False
