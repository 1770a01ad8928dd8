"""The whole configuration, as dataclasses; YAML under conf/ fills it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from .cca import CcaConfig
from .chunking import ChunkingConfig
from .corpus import CorpusConfig
from .database import DatabaseConfig
from .embedder import EmbedderConfig
from .evaluation import EvalConfig
from .logger import LoggerConfig
from .model import ModelConfig
from .neighbours import NeighboursConfig
from .optim import OptimConfig
from .plain import PlainConfig
from .prepare import PrepareConfig
from .recipe import RecipeConfig
from .retriever import RetrieverConfig
from .schedule import ScheduleConfig
from .tokenizer import TokenizerConfig
from .trainer import TrainerConfig


@dataclass
class StoreConfig:
    """Where stages are kept; environment variable RETRO_LAB_STORE sets it too."""

    dir: str = "runs/.store"


class Objective(Enum):
    """What an optimiser minimises, over all chunks of the evaluated split: the run's own bits per
    byte, or RETRO[ON] minus the plain model, which is below zero where retrieval gains.
    """

    bpb = "bpb"
    gain = "gain"


@dataclass
class Config:
    """One run.

    Attributes:
        plain: the model without retrieval that a gain is measured against.
        objective: what `sweep=optuna` and other optimisers minimise; changes no run.
        baseline: `auto` trains the shared baseline when it is missing; null leaves it and the plain
            model out.
        resume: `auto` goes on from the last checkpoint; null starts again.
        seed: of initialisation, data order and dropout.
        runs_dir: parent of run directories.
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
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    plain: PlainConfig = field(default_factory=PlainConfig)
    baseline: str | None = "auto"
    resume: str | None = "auto"
    objective: Objective = Objective.bpb
    seed: int = 1
    runs_dir: str = "runs"


@dataclass
class RunStoreConfig:
    """Where a finished run's stages are kept; null takes the store that it was trained with."""

    dir: str | None = None


@dataclass
class EvaluateConfig:
    """An evaluation of a finished run; all else comes from the run itself.

    Attributes:
        run: path of a run directory, or a list of several, which are then compared.
        database: searched instead of the run's own; null searches that one.
        plain: the model that a gain is measured against; null takes the run's.
        trainer: hardware to evaluate on; null takes the run's. Precision stays the run's.
    """

    run: Any = MISSING
    eval: EvalConfig = field(default_factory=EvalConfig)
    database: DatabaseConfig | None = None
    plain: PlainConfig | None = None
    trainer: TrainerConfig | None = None
    store: RunStoreConfig = field(default_factory=RunStoreConfig)
